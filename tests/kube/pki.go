package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// writeKeys makes an authority, the server's and an administrator's
// certificates, the key that signs service account tokens, and a kubeconfig.
func writeKeys(server string) error {
	if err := os.MkdirAll("pki", 0o700); err != nil {
		return err
	}
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "kube-ca"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	caKey, err := certify("ca", ca, ca, nil)
	if err != nil {
		return err
	}
	// Signing needs what parsing fills in, the key's identifier for one.
	data, err := os.ReadFile("pki/ca.crt")
	if err != nil {
		return err
	}
	block, _ := pem.Decode(data)
	if ca, err = x509.ParseCertificate(block.Bytes); err != nil {
		return err
	}
	if _, err := certify("server", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(serviceIP)},
		DNSNames:    []string{"localhost", "kubernetes.default.svc"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, caKey); err != nil {
		return err
	}
	if _, err := certify("admin", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca, caKey); err != nil {
		return err
	}
	accounts, err := newKey("accounts")
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&accounts.PublicKey)
	if err != nil {
		return err
	}
	if err := writePEM("pki/accounts.pub", "PUBLIC KEY", public); err != nil {
		return err
	}
	return writeKubeconfig(server)
}

func writeKubeconfig(server string) error {
	read := func(name string) []byte {
		data, _ := os.ReadFile("pki/" + name) // written a moment ago
		return data
	}
	config := api.NewConfig()
	config.Clusters["kube"] = &api.Cluster{Server: server, CertificateAuthorityData: read("ca.crt")}
	config.AuthInfos["admin"] = &api.AuthInfo{
		ClientCertificateData: read("admin.crt"), ClientKeyData: read("admin.key"),
	}
	config.Contexts["kube"] = &api.Context{Cluster: "kube", AuthInfo: "admin", Namespace: "default"}
	config.CurrentContext = "kube"
	return clientcmd.WriteToFile(*config, "kubeconfig")
}

// certify writes NAME.key and NAME.crt, signed by the parent; without a
// parent's key the certificate signs itself.
func certify(name string, template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, error) {
	key, err := newKey(name)
	if err != nil {
		return nil, err
	}
	if by == nil {
		by = key
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		return nil, err
	}
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().AddDate(0, 1, 0)
	data, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		return nil, err
	}
	return key, writePEM("pki/"+name+".crt", "CERTIFICATE", data)
}

func newKey(name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	data, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM("pki/"+name+".key", "EC PRIVATE KEY", data)
}

func writePEM(path, kind string, data []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600)
}
