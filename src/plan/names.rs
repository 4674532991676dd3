//! Platforms in the names of steps, where several are built.

use crate::platform::Platform;

use super::scope::Vars;

/// What a step runs for and a space; after an arrow, what it makes things for, if
/// the stage knows that to be another: `linux/amd64->arm64 `.
pub(super) fn platforms(own: &Platform, vars: &Vars) -> String {
    let target = target(own, vars)
        .filter(|target| target.os != own.os || target.architecture != own.architecture);
    match target {
        None => format!("{own} "),
        Some(target) if target.os != own.os => format!("{own}->{target} "),
        Some(target) => {
            let variant = target.variant.map(|variant| format!("/{variant}")).unwrap_or_default();
            format!("{own}->{}{variant} ", target.architecture)
        }
    }
}

/// What the `TARGET` arguments say that the stage has declared.
fn target(own: &Platform, vars: &Vars) -> Option<Platform> {
    if let Some(whole) = vars.get("TARGETPLATFORM").and_then(|text| text.parse().ok()) {
        return Some(whole);
    }
    let given = |name: &str| vars.get(name).filter(|text| !text.is_empty());
    let (os, arch) = (given("TARGETOS"), given("TARGETARCH"));
    let variant = given("TARGETVARIANT");
    os.or(arch).or(variant)?;
    let mut target = Platform::new(os.unwrap_or(&own.os), arch.unwrap_or(&own.architecture));
    target.variant = variant.map(str::to_owned);
    Some(target.normalized())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows() {
        let own = Platform::new("linux", "amd64");
        for (set, name) in [
            (vec![], "linux/amd64 "),
            (vec![("TARGETARCH", "amd64")], "linux/amd64 "),
            (vec![("TARGETARCH", "arm64")], "linux/amd64->arm64 "),
            (vec![("TARGETARCH", "arm"), ("TARGETVARIANT", "v6")], "linux/amd64->arm/v6 "),
            (vec![("TARGETPLATFORM", "linux/arm")], "linux/amd64->arm/v7 "),
            (vec![("TARGETOS", "windows")], "linux/amd64->windows/amd64 "),
            (vec![("TARGETVARIANT", "")], "linux/amd64 "),
        ] {
            let mut vars = Vars::default();
            for (key, value) in set {
                vars.set(key, value);
            }
            assert_eq!(platforms(&own, &vars), name);
        }
    }
}
