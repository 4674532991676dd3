//! The list: a rule is its name and what it asks for.

use crate::diagnostic::Rule;

macro_rules! rules {
    ($($constant:ident, $name:literal, $sentence:literal $(, $experimental:ident)?;)*) => {
        $(
            #[doc = $sentence]
            pub static $constant: Rule = Rule {
                name: $name,
                sentence: $sentence,
                experimental: false $(|| stringify!($experimental).len() > 0)?,
            };
        )*

        /// Every rule, by name.
        pub static RULES: &[&Rule] = &[$(&$constant),*];
    };
}

rules! {
    CONSISTENT_INSTRUCTION_CASING, "ConsistentInstructionCasing",
        "Keywords are written either all in capitals or all in small letters.";
    COPY_IGNORED_FILE, "CopyIgnoredFile",
        "COPY and ADD name no file that .dockerignore keeps from the build.";
    DUPLICATE_STAGE_NAME, "DuplicateStageName",
        "No two stages have the same name: only the last of them can be reached by it.";
    EXPOSE_INVALID_FORMAT, "ExposeInvalidFormat",
        "EXPOSE names ports of the container alone: addresses and ports of the host are chosen when it runs.";
    EXPOSE_PROTO_CASING, "ExposeProtoCasing",
        "Protocols in EXPOSE are written in small letters.";
    FROM_AS_CASING, "FromAsCasing",
        "AS is written in the letters that FROM is written in, large or small.";
    FROM_PLATFORM_FLAG_CONST_DISALLOWED, "FromPlatformFlagConstDisallowed",
        "FROM --platform is not a fixed platform, unless the stage's name says for which it is.";
    INVALID_BASE_IMAGE_PLATFORM, "InvalidBaseImagePlatform",
        "A base image is for the platform that the stage is built for.";
    INVALID_DEFAULT_ARG_IN_FROM, "InvalidDefaultArgInFrom",
        "FROM names an image also when every argument has its default.";
    INVALID_DEFINITION_DESCRIPTION, "InvalidDefinitionDescription",
        "A comment right above ARG or a named FROM describes it: the name first, then the text.", experimental;
    JSON_ARGS_RECOMMENDED, "JSONArgsRecommended",
        "CMD and ENTRYPOINT are JSON arrays: between a shell and the program, signals get lost.";
    LEGACY_KEY_VALUE_FORMAT, "LegacyKeyValueFormat",
        "ENV and LABEL have an equals sign between key and value.";
    MAINTAINER_DEPRECATED, "MaintainerDeprecated",
        "Authors are named by a label, no longer by MAINTAINER.";
    MULTIPLE_INSTRUCTIONS_DISALLOWED, "MultipleInstructionsDisallowed",
        "A stage has one CMD, one ENTRYPOINT and one HEALTHCHECK at most: only the last counts.";
    NO_EMPTY_CONTINUATION, "NoEmptyContinuation",
        "No empty line stands within a continued instruction.";
    REDUNDANT_TARGET_PLATFORM, "RedundantTargetPlatform",
        "FROM --platform does not say $TARGETPLATFORM: that is the platform without it.";
    RESERVED_STAGE_NAME, "ReservedStageName",
        "No stage is called scratch or context: these names mean something else.";
    SECRETS_USED_IN_ARG_OR_ENV, "SecretsUsedInArgOrEnv",
        "ARG and ENV hold no secrets: whoever has the image can read them.";
    STAGE_NAME_CASING, "StageNameCasing",
        "Names of stages are written in small letters.";
    UNDEFINED_ARG_IN_FROM, "UndefinedArgInFrom",
        "FROM uses no variable that no ARG before the first FROM declares.";
    UNDEFINED_VAR, "UndefinedVar",
        "No variable is used that no ARG, no ENV and no base image defines before.";
    WORKDIR_RELATIVE_PATH, "WorkdirRelativePath",
        "The first WORKDIR of a file's stages is absolute: another base image may have another one below it.";
}
