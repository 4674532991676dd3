//! Recorded answers of BuildKit's shell lexer.

use super::*;

fn vars(name: &str) -> Option<String> {
    let value = match name {
        "PWD" => "/home",
        "SHELL" => "bash",
        "NULL" => "",
        "KOREAN" => "한국어",
        "FOO" => "xxyy",
        "X" => "x",
        "PATH_" => "/a/foo/b/c.txt",
        "STARS" => "a***yy*",
        "GLOB" => "\\*/",
        "FILES" => "/foo*/*/*.txt",
        "SPACE" => "abc  def",
        "LEAD" => "  ab c",
        "TRAIL" => "ab c   ",
        "REGEX" => "()[]{}^$.*?|\\x",
        _ => return None,
    };
    Some(value.to_owned())
}

#[test]
fn words_of_the_shell() {
    let cases = [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        (r"he\'llo", "he'llo"),
        (r"abc\tdef", "abctdef"),
        (r#""abc\tdef""#, r"abc\tdef"),
        (r#""abc\\tdef""#, r"abc\tdef"),
        (r"'abc\tdef'", r"abc\tdef"),
        (r"hello\", "hello"),
        (r"hello\\", r"hello\"),
        (r#""hel'lo""#, "hel'lo"),
        (r"'hello\'", r"hello\"),
        (r"'hello\\there'", r"hello\\there"),
        ("\"''\"", "''"),
        ("$.", "$."),
        ("he$1x", "hex"),
        ("he$.x", "he$.x"),
        ("he$pwd.", "he."),
        ("he$PWD", "he/home"),
        (r"he\$PWD", "he$PWD"),
        (r"he\\$PWD", r"he\/home"),
        (r#""he\$PWD""#, "he$PWD"),
        (r#""he\\$PWD""#, r"he\/home"),
        (r"\${}aaa", "${}aaa"),
        ("he${hi}xx", "hexx"),
        ("he${PWD}", "he/home"),
        ("he${XXX:-000}xx", "he000xx"),
        ("he${PWD:-000}xx", "he/homexx"),
        ("he${XXX:-${PWD:-yyy}}xx", "he/homexx"),
        ("he${XXX:-${YYY:-yyy}}xx", "heyyyxx"),
        ("he${PWD?}", "he/home"),
        ("he${NULL?}", "he"),
        ("he${XXX:+${PWD}}xx", "hexx"),
        ("he${PWD:+${SHELL}}xx", "hebashxx"),
        ("${NULL+set}${NULL:+full}", "set"),
        ("${NULL-unset}${NULL:-null}", "null"),
        ("'he${XX}'", "he${XX}"),
        ("\"he'$PWD'\"", "he'/home'"),
        (r"he${XXX:-\$PWD:}xx", "he$PWD:xx"),
        (r"he${XXX:-\${PWD}z}xx", "he${PWDz}xx"),
        ("he${PWD:+${PWD}:}xx", "he/home:xx"),
        ("안녕$KOREAN", "안녕한국어"),
        (r"안녕\t하세요", "안녕t하세요"),
        ("${aaa}}", "}"),
        ("${aaa:-bbb {foo}", "bbb {foo"),
        ("${1:-bbb}$999aaa${@:-c}$@@@", "bbbaaac@@"),
        ("${#}${-}$$${!:+x}", ""),
        ("a <<  b", "a <<  b"),
        (r"${REGEX#()[]{\}^$.\*\?|\\}", "x"),
        (r"${STARS%%\**\*}", "a"),
        ("${FOO#*x*y}", "y"),
        ("${FOO#*}", "xxyy"),
        ("${FOO##*}", ""),
        ("${FOO#$X}", "xyy"),
        ("${FOO##*x}", "yy"),
        ("${FOO%y}${FOO%%y*}", "xxyxx"),
        ("${FOO%x}${FOO#}${FOO%%}", "xxyyxxyyxxyy"),
        ("${FILES/$GLOB/.} ${FILES//$GLOB/.}", "/foo.*/*.txt /foo..*.txt"),
        (r"${PATH_//\//\\/}", r"\\/a\\/foo\\/b\\/c.txt"),
        ("${PATH_/'/?/'/-}", "-foo/b/c.txt"),
        ("${FOO/$NULL/w}", "wxxyy"),
        ("${FOO//$NULL/w}", "wxwxwywyw"),
        ("${FOO///}", "xxyy"),
        ("${XXX//a/b}", ""),
    ];
    for (word, want) in cases {
        match expand(word, '\\', &vars) {
            Ok(expanded) => assert_eq!(expanded.value, want, "{word}"),
            Err(error) => panic!("{word}: {error}"),
        }
    }
    assert_eq!(expand("a`$PWD\\b", '`', &vars).unwrap().value, "a$PWD\\b");
    assert_eq!(
        expand_unquoted("'$PWD' \"\\$PWD\"", '\\', &vars).unwrap().value,
        "'/home' \"$PWD\""
    );
}

#[test]
fn splitting() {
    let cases: [(&str, &[&str]); 12] = [
        ("hello${SPACE}bye", &["helloabc", "defbye"]),
        ("hello\"${SPACE}\"bye", &["helloabc  defbye"]),
        ("hello${LEAD}def", &["hello", "ab", "cdef"]),
        ("hello${TRAIL}d", &["helloab", "c", "d"]),
        ("hel\"lo${TRAIL}\"", &["helloab c   "]),
        ("hello\" there  \"", &["hello there  "]),
        ("hello     there", &["hello", "there"]),
        (r"hello\ there", &["hello there"]),
        ("hello\\\" there", &["hello\"", "there"]),
        ("80 '' \"\" $NULL", &["80"]),
        ("a${XXX:-b c}d", &["ab", "cd"]),
        ("<< EOF b", &["<< EOF", "b"]),
    ];
    for (text, want) in cases {
        assert_eq!(expand_words(text, '\\', &vars).unwrap().words, want, "{text}");
    }
}

#[test]
fn refused() {
    let cases = [
        ("he'llo", "'llo", "a single quote is never closed"),
        (r#"a "hello\""#, r#""hello\""#, "a double quote is never closed"),
        ("a${}b", "${}", "`${` needs the name of a variable"),
        ("${{a}", "${{", "`${` needs the name of a variable"),
        ("${:-b}", "${:", "`${` needs the name of a variable"),
        ("he${", "${", "`}` is missing in ${…}"),
        ("he${PWD", "${PWD", "`}` is missing in ${…}"),
        ("he${PWD:", "${PWD:", "`}` is missing in ${…}"),
        ("he${PWD:-a", "${PWD:-a", "`}` is missing in ${…}"),
        ("he${XXX:-${YYY}", "${XXX:-${YYY}", "`}` is missing in ${…}"),
        ("${.}", ".", "unsupported modifier `.` in ${…}"),
        ("${PWD:=0}", ":=", "unsupported modifier `:=` in ${…}"),
        ("${PWD:#0}", ":#", "unsupported modifier `:#` in ${…}"),
        ("${XXX:YYY}", ":Y", "unsupported modifier `:Y` in ${…}"),
        ("a${XXX?}b", "${XXX?}", "XXX: is not allowed to be unset"),
        ("a${NULL:?}b", "${NULL:?}", "NULL: is not allowed to be empty"),
        ("a${XXX?set it}b", "${XXX?set it}", "XXX: set it"),
        ("${FOO//ww}", "${FOO//ww}", "`/` is missing in ${…}"),
        ("${FOO#a\\b}", "${FOO#a\\b}", "invalid pattern in ${…}: `\\b` escapes nothing"),
    ];
    for (word, part, message) in cases {
        match expand(word, '\\', &vars) {
            Ok(expanded) => panic!("{word}: {expanded:?}"),
            Err(error) => {
                assert_eq!(error.to_string(), message, "{word}");
                assert_eq!(&word[error.range], part, "{word}");
            }
        }
    }
}

#[test]
fn variables_are_told() {
    let expanded = expand("$A ${PWD} \"${B:-$C}\" ${FOO+x} '$D'", '\\', &vars).unwrap();
    let told: Vec<(&str, bool)> =
        expanded.variables.iter().map(|it| (it.name.as_str(), it.defined)).collect();
    assert_eq!(told, [("A", false), ("PWD", true), ("C", false), ("B", false), ("FOO", true)]);
    let undefined: Vec<&str> = expanded.undefined().map(|it| it.name.as_str()).collect();
    assert_eq!(undefined, ["A", "C", "B"]);
    assert_eq!(expanded.variables[1].range, 3..8);
}

#[test]
fn work_is_bounded() {
    let nested = |depth: usize| format!("{}x{}", "${a:-".repeat(depth), "}".repeat(depth));
    assert_eq!(expand(&nested(MAX_DEPTH), '\\', &|_| None).unwrap().value, "x");
    let problem = |word: &str, value: &str| {
        expand(word, '\\', &|_| Some(value.to_owned())).unwrap_err().problem
    };
    let error = expand(&nested(MAX_DEPTH + 1), '\\', &|_| None).unwrap_err();
    assert_eq!(error.problem, Problem::Depth);
    assert_eq!(problem(&nested(100_000), ""), Problem::Depth);
    assert_eq!(problem(&"$a".repeat(2_000), &"x".repeat(1_000)), Problem::Length);
    assert_eq!(problem("${a//x/$a}", &"x".repeat(2_000)), Problem::Length);
    assert_eq!(problem("${a//*x*x*x*y/}", &"x".repeat(100_000)), Problem::Work);
}
