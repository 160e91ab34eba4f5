package socket

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-agent/barnabas/core/spool"
	"github.com/barnabas-agent/barnabas/sources/sourcetest"
)

// authority signs certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t}
	a.cert, a.key, _ = a.make(&x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

func (a *authority) make(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore = serial, time.Now().Add(-48*time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(48 * time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key, der
}

// pair makes a certificate for 127.0.0.1 that ends at a time.
func (a *authority) pair(name string, until time.Time) tls.Certificate {
	_, key, der := a.make(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// write puts a certificate and its key into files.
func write(t testing.TB, dir string, pair tls.Certificate) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, cert, "CERTIFICATE", pair.Certificate[0])
	writePEM(t, key, "PRIVATE KEY", der)
	return cert, key
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// secured is a source with TLS, where clients need a certificate if mutual.
func secured(t *testing.T, a *authority, mutual bool) (files TLS, change func(*Config, *spool.Config)) {
	dir := t.TempDir()
	files.CertFile, files.KeyFile = write(t, dir, a.pair("server", time.Time{}))
	if mutual {
		files.ClientCAFile = filepath.Join(dir, "ca.pem")
		writePEM(t, files.ClientCAFile, "CERTIFICATE", a.cert.Raw)
	}
	return files, func(c *Config, _ *spool.Config) { c.TLS = &files }
}

// client dials with TLS and returns the handshake's error, as far as a client of
// TLS 1.3 learns of it.
func client(r *rig, a *authority, change func(*tls.Config)) (*tls.Conn, error) {
	r.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	config := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
	if change != nil {
		change(config)
	}
	c := tls.Client(r.dial(), config)
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c, c.Handshake()
}

func TestTLS(t *testing.T) {
	a := newAuthority(t)
	_, change := secured(t, a, true)
	r := start(t, change)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		before := len(r.lane.Values())
		c, err := client(r, a, func(c *tls.Config) {
			c.MinVersion, c.MaxVersion = version, version
			c.Certificates = []tls.Certificate{a.pair("client", time.Time{})}
		})
		if err != nil {
			t.Fatal(err)
		}
		large := strings.Repeat("l", 50_000)
		io.WriteString(c, "small\n")
		r.lane.Wait(before + 1)
		io.WriteString(c, large+"\n"+large+"\nlast")
		c.CloseWrite()
		r.lane.Wait(before + 4)
		if got := r.lane.Values()[before:]; got[0] != "small" || got[1] != large || got[2] != large || got[3] != "last" {
			t.Errorf("version %x: records of %d, %d, %d, %d bytes", version, len(got[0]), len(got[1]), len(got[2]), len(got[3]))
		}
	}
	r.droppedNothing()
}

// Anybody on the way can end a connection: without close_notify a last line is not
// taken for a whole one.
func TestTLSCutWithoutNotice(t *testing.T) {
	a := newAuthority(t)
	_, change := secured(t, a, false)
	r := start(t, change)
	c, err := client(r, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "whole\npart")
	r.expect("whole")
	c.NetConn().(*net.TCPConn).CloseWrite()
	r.dropped(dropPartial, 1)
	r.expect("whole")
}

func TestS09TLSGarbage(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	_, change := secured(t, a, true)
	r := start(t, change, patient(func(p *patience) { p.handshake = 500 * time.Millisecond }))
	good := []tls.Certificate{a.pair("client", time.Time{})}
	bystander, err := client(r, a, func(c *tls.Config) { c.Certificates = good })
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for name, config := range map[string]func(*tls.Config){
		"no certificate":       nil,
		"expired":              func(c *tls.Config) { c.Certificates = []tls.Certificate{a.pair("old", time.Now().Add(-time.Hour))} },
		"of another authority": func(c *tls.Config) { c.Certificates = []tls.Certificate{other.pair("client", time.Time{})} },
		"TLS 1.0": func(c *tls.Config) {
			c.Certificates, c.MinVersion, c.MaxVersion = good, tls.VersionTLS10, tls.VersionTLS10
		},
		"TLS 1.1": func(c *tls.Config) {
			c.Certificates, c.MinVersion, c.MaxVersion = good, tls.VersionTLS10, tls.VersionTLS11
		},
	} {
		c, err := client(r, a, config)
		io.WriteString(c, "SECRET\n")
		if err == nil { // a client of TLS 1.3 learns of its refusal when it reads
			_, err = c.Read(make([]byte, 1))
		}
		if err == nil || isTimeout(err) {
			t.Errorf("%s: %v", name, err)
		}
		failed++
		r.dropped(dropHandshake, failed)
	}
	for _, garbage := range []string{"GET / HTTP/1.1\r\nSECRET\r\n\r\n", "<13>SECRET\n", strings.Repeat("\x16\x03\x01\xff\xff", 1000), "\x16\x03\x01\x40\x00\x01"} {
		c := r.dial()
		io.WriteString(c, garbage) // may fail: the source has closed it already
		r.closed(c)
		failed++
		r.dropped(dropHandshake, failed)
	}
	stalled := r.dial()
	began := time.Now()
	r.closed(stalled)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a stalled handshake held its place for %v", took)
	}
	r.dropped(dropHandshake, failed+1)
	io.WriteString(bystander, "fine\n")
	r.expect("fine")
	if strings.Contains(r.log.String(), "SECRET") {
		t.Error("the log quotes what was sent")
	}
}

func TestCertificatesAreReadAnew(t *testing.T) {
	a, second := newAuthority(t), newAuthority(t)
	files, change := secured(t, a, false)
	clock := time.Now()
	r := start(t, change, func(c *Config, _ *spool.Config) { c.Now = func() time.Time { return clock } })
	dir := filepath.Dir(files.CertFile)
	touch := func() { // the same modification time would be no change
		clock = clock.Add(time.Minute)
		for _, f := range []string{files.CertFile, files.KeyFile} {
			if err := os.Chtimes(f, clock, clock); err != nil {
				t.Fatal(err)
			}
		}
	}
	connect := func(by *authority, want bool) {
		t.Helper()
		c, err := client(r, by, nil)
		if (err == nil) != want {
			t.Errorf("%v, success is expected to be %v", err, want)
		}
		c.Close()
		r.connections(0)
	}
	connect(a, true)
	if err := os.WriteFile(files.CertFile, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	touch()
	connect(a, true) // the one before stays in force
	write(t, dir, second.pair("server", time.Time{}))
	touch()
	connect(a, false)
	connect(second, true)
	sourcetest.Eventually(t, func() bool { return strings.Contains(r.log.String(), "new tls files can't be used") }, "a word about the broken file")
}

func TestCertificatesThatCantBeUsed(t *testing.T) {
	a := newAuthority(t)
	files, _ := secured(t, a, true)
	for _, change := range []func(*TLS){
		func(f *TLS) { f.CertFile += ".missing" },
		func(f *TLS) { f.KeyFile = f.CertFile },
		func(f *TLS) { f.ClientCAFile = f.KeyFile },
	} {
		broken := files
		change(&broken)
		refuses(t, Listen{TCP, "127.0.0.1:0"}, ".pem", func(c *Config) { c.TLS = &broken })
	}
	refuses(t, Listen{UDP, "127.0.0.1:0"}, "datagrams", func(c *Config) { c.TLS = &files })
}
