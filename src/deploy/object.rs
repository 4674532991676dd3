//! Deployments and Pods made from a few words.
//!
//! The shapes are those of `kubectl create deployment` and `kubectl run`: one
//! container named after the workload, the label `app` as selector.

use serde_json::{Value, json};

use super::manifest::Document;
use super::{DeployError, Kind, Simple};
use crate::reference::Pinned;

/// The object that runs the image.
pub(super) fn make(simple: &Simple, image: &Pinned) -> Result<Document, DeployError> {
    check_name(&simple.name)?;
    for (name, _) in &simple.env {
        if name.is_empty() || name.chars().any(|c| c == '=' || c.is_control()) {
            return Err(DeployError::Invalid {
                what: "environment variable",
                value: name.clone(),
                why: "a name is not empty and has no `=`",
            });
        }
    }
    if simple.port == Some(0) {
        return Err(DeployError::Invalid {
            what: "port",
            value: "0".into(),
            why: "ports are 1 to 65535",
        });
    }

    let labels = json!({ "app": simple.name });
    let mut container = json!({ "name": simple.name, "image": image.to_string() });
    if let Some(port) = simple.port {
        container["ports"] = json!([{ "containerPort": port, "protocol": "TCP" }]);
    }
    if !simple.env.is_empty() {
        container["env"] = simple
            .env
            .iter()
            .map(|(name, value)| json!({ "name": name, "value": value }))
            .collect();
    }
    let pod = json!({ "containers": [container] });
    let value = match simple.kind {
        Kind::Pod => {
            if let Some(replicas) = simple.replicas {
                return Err(DeployError::Invalid {
                    what: "number of replicas",
                    value: replicas.to_string(),
                    why: "a Pod is one; a Deployment has replicas",
                });
            }
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "name": simple.name, "labels": labels },
                "spec": pod,
            })
        }
        Kind::Deployment => {
            let mut spec = json!({
                "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": pod },
            });
            if let Some(replicas) = simple.replicas {
                spec["replicas"] = replicas.into();
            }
            json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": { "name": simple.name, "labels": labels },
                "spec": spec,
            })
        }
    };
    Ok(Document { value, file: "--name".into(), number: 1 })
}

/// Container names are DNS labels (RFC 1123), and the workload lends its name.
fn check_name(name: &str) -> Result<(), DeployError> {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let good = (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if good {
        return Ok(());
    }
    Err(DeployError::Invalid {
        what: "name",
        value: name.into(),
        why: "1 to 63 lower-case letters, digits and inner `-` are expected",
    })
}

/// The pod specification inside an object, if it is of a kind that has one.
pub(super) fn pod_spec(object: &mut Value) -> Option<&mut Value> {
    let group = object["apiVersion"].as_str()?.rsplit_once('/').map_or("", |(group, _)| group);
    let path = match (group, object["kind"].as_str()?) {
        ("", "Pod") => "/spec",
        ("", "ReplicationController")
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job") => "/spec/template/spec",
        ("batch", "CronJob") => "/spec/jobTemplate/spec/template/spec",
        _ => return None,
    };
    object.pointer_mut(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Pinned {
        let digest = crate::digest::BlobDigest(crate::digest::Digest::of(b"x"));
        "127.0.0.1:5000/hello:v1".parse::<crate::reference::Reference>().unwrap().pin(digest)
    }

    fn hello(kind: Kind) -> Simple {
        Simple { name: "hello".into(), kind, replicas: None, port: None, env: Vec::new() }
    }

    #[test]
    fn shapes() {
        let simple = Simple {
            replicas: Some(2),
            port: Some(8080),
            env: vec![("A".into(), "b c".into())],
            ..hello(Kind::Deployment)
        };
        let value = make(&simple, &image()).unwrap().value;
        assert_eq!(value["spec"]["replicas"], 2);
        assert_eq!(
            value["spec"]["selector"]["matchLabels"],
            value["spec"]["template"]["metadata"]["labels"]
        );
        let container = &value["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], image().to_string());
        assert_eq!(container["ports"][0]["containerPort"], 8080);
        assert_eq!(container["env"][0], json!({ "name": "A", "value": "b c" }));

        let value = make(&hello(Kind::Deployment), &image()).unwrap().value;
        assert!(value["spec"].get("replicas").is_none(), "unasked replicas are not owned");
        let value = make(&hello(Kind::Pod), &image()).unwrap().value;
        assert_eq!(value["spec"]["containers"][0]["image"], image().to_string());
    }

    #[test]
    fn refused() {
        for name in ["", "Hello", "a.b", "-a", "a-", "a_b", &"a".repeat(64)] {
            let simple = Simple { name: name.into(), ..hello(Kind::Pod) };
            assert!(make(&simple, &image()).is_err(), "{name}");
        }
        assert!(make(&Simple { replicas: Some(1), ..hello(Kind::Pod) }, &image()).is_err());
        assert!(make(&Simple { port: Some(0), ..hello(Kind::Pod) }, &image()).is_err());
        let env = vec![("A=B".to_owned(), String::new())];
        assert!(make(&Simple { env, ..hello(Kind::Pod) }, &image()).is_err());
    }
}
