//! An authority that signs certificates.

use std::path::{Path, PathBuf};

use super::registry::{TestRegistry, tool};

/// Signs for as long as a test runs, in a folder of its own.
pub(crate) struct Authority {
    folder: tempfile::TempDir,
}

/// A certificate and its key.
pub(crate) struct Signed {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

fn openssl(line: &str, paths: &[(&str, &Path)]) {
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    for (flag, path) in paths {
        words.extend([(*flag).to_owned(), path.to_str().unwrap().to_owned()]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    tool("openssl", "openssl", &words);
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (key, root) = (folder.path().join("ca.key"), folder.path().join("ca.crt"));
        let request = format!("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name}");
        openssl(&request, &[("-keyout", &key), ("-out", &root)]);
        Self { folder }
    }

    /// The root's certificate.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A certificate for names (`IP:127.0.0.1,DNS:localhost`), valid between two times as
    /// `openssl ca` writes them.
    pub(crate) fn signs(&self, name: &str, names: &str, from: &str, until: &str) -> Signed {
        let at = |file: String| self.folder.path().join(file);
        let (key, request) = (at(format!("{name}.key")), at(format!("{name}.csr")));
        let (cert, conf) = (at(format!("{name}.crt")), at(format!("{name}.cnf")));
        let line = format!("req -newkey rsa:2048 -nodes -subj /CN={name}");
        openssl(&line, &[("-keyout", &key), ("-out", &request)]);
        let (index, serial) = (at(format!("{name}.index")), at(format!("{name}.serial")));
        std::fs::write(&index, "").unwrap();
        let text = format!(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = {}\nserial = {}\nnew_certs_dir = {}\n\
             default_md = sha256\npolicy = any\nx509_extensions = ext\n[any]\n\
             commonName = supplied\n[ext]\nsubjectAltName = {names}\n",
            index.display(),
            serial.display(),
            self.folder.path().display()
        );
        std::fs::write(&conf, text).unwrap();
        let line = format!("ca -batch -notext -create_serial -startdate {from} -enddate {until}");
        openssl(
            &line,
            &[
                ("-config", &conf),
                ("-cert", &self.root()),
                ("-keyfile", &self.folder.path().join("ca.key")),
                ("-in", &request),
                ("-out", &cert),
            ],
        );
        Signed { cert, key }
    }

    /// A certificate that is valid now.
    pub(crate) fn valid(&self, name: &str, names: &str) -> Signed {
        self.signs(name, names, "20200101000000Z", "20491231000000Z")
    }
}

impl Signed {
    /// A registry with this certificate at an address, which asks for one by `clients`
    /// if that is given.
    pub(crate) fn registry(&self, ip: &str, clients: Option<&Authority>) -> TestRegistry {
        let clients = clients.map_or_else(String::new, |authority| {
            format!(", clientcas: [\"{}\"]", authority.root().display())
        });
        let (cert, key) = (self.cert.display(), self.key.display());
        let http = format!(", tls: {{certificate: \"{cert}\", key: \"{key}\"{clients}}}");
        TestRegistry::configured_at(ip, &http, |_| String::new())
    }

    /// Puts the certificate and the key into a folder, as client certificates are there.
    pub(crate) fn put_into(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::copy(&self.cert, folder.join("client.cert")).unwrap();
        std::fs::copy(&self.key, folder.join("client.key")).unwrap();
    }
}
