//! `--call=check,format=json`: what is wanted of a Dockerfile instead of an image.

use std::str::FromStr;

use super::ValueError;

/// A method of buildx's `--call`, and how its answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallArg {
    pub method: Method,
    pub json: bool,
    /// Give 0 whatever a check finds.
    pub ignore_status: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// None of them: build.
    Build,
    Check,
    Outline,
    Targets,
}

impl CallArg {
    /// A method whose answer is for people.
    #[must_use]
    pub fn plain(method: Method) -> Self {
        Self { method, json: false, ignore_status: false }
    }
}

impl FromStr for CallArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut fields = text.split(',');
        let name = fields.next().unwrap_or_default().trim();
        let method = match name.to_ascii_lowercase().as_str() {
            "build" => Method::Build,
            "check" | "lint" => Method::Check,
            "outline" => Method::Outline,
            "targets" => Method::Targets,
            _ => {
                let said = format!("`{name}` is not known; build, check, outline and targets are");
                return Err(ValueError::new(said));
            }
        };
        let mut read = Self::plain(method);
        for field in fields {
            match field.split_once('=').unwrap_or((field, "true")) {
                ("format", "json") => read.json = true,
                ("format", "text") => read.json = false,
                ("ignorestatus", "true" | "1") => read.ignore_status = true,
                ("ignorestatus", "false" | "0") => read.ignore_status = false,
                _ => {
                    return Err(ValueError::new(format!(
                        "`{field}` is not known; format=json, format=text and ignorestatus=true are"
                    )));
                }
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls() {
        let plain = CallArg::plain;
        for (text, want) in [
            ("check", Some(plain(Method::Check))),
            ("Targets", Some(plain(Method::Targets))),
            ("build", Some(plain(Method::Build))),
            ("outline,format=json", Some(CallArg { json: true, ..plain(Method::Outline) })),
            (
                "check,ignorestatus=true,format=text",
                Some(CallArg { ignore_status: true, ..plain(Method::Check) }),
            ),
            ("", None),
            ("describe", None),
            ("check,format=yaml", None),
            ("check,json", None),
        ] {
            assert_eq!(text.parse().ok(), want, "{text}");
        }
    }
}
