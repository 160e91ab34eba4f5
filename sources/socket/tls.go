package socket

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// TLS names the files that secure a listening socket.
type TLS struct {
	CertFile     string
	KeyFile      string
	ClientCAFile string // "": clients need no certificate
}

// lookEvery is how often handshakes look whether the files have changed.
const lookEvery = time.Second

// certificates gives each handshake the files' current content. A certificate that
// is replaced counts for the next connection; files that can't be used leave the
// ones before in force.
type certificates struct {
	files TLS
	log   *notices
	now   func() time.Time

	mu      sync.Mutex
	current *tls.Config
	looked  time.Time
	changed [3]time.Time // when the files had changed that current is made of
}

func newCertificates(files TLS, log *notices, now func() time.Time) (*certificates, error) {
	c := &certificates{files: files, log: log, now: now}
	changed, err := c.changes()
	if err != nil {
		return nil, err
	}
	if c.current, err = c.load(); err != nil {
		return nil, err
	}
	c.changed, c.looked = changed, now()
	return c, nil
}

// config is the configuration of the listener.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.refreshed(), nil },
	}
}

func (c *certificates) refreshed() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.looked) >= lookEvery {
		c.looked = now
		c.refresh()
	}
	return c.current
}

func (c *certificates) refresh() {
	changed, err := c.changes()
	if err == nil && changed == c.changed {
		return
	}
	var fresh *tls.Config
	if err == nil {
		fresh, err = c.load()
	}
	if err != nil {
		c.log.say(slog.LevelError, "new tls files can't be used: the ones before stay in force", "error", err)
		return
	}
	c.current, c.changed = fresh, changed
	c.log.say(slog.LevelInfo, "tls files have changed and are in force")
}

func (c *certificates) changes() (changed [3]time.Time, err error) {
	for i, path := range []string{c.files.CertFile, c.files.KeyFile, c.files.ClientCAFile} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return changed, err
		}
		changed[i] = info.ModTime()
	}
	return changed, nil
}

func (c *certificates) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.files.CertFile, c.files.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", c.files.CertFile, c.files.KeyFile, err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if c.files.ClientCAFile == "" {
		return config, nil
	}
	text, err := os.ReadFile(c.files.ClientCAFile)
	if err != nil {
		return nil, err
	}
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("client_ca_file %s holds no certificate in PEM form", c.files.ClientCAFile)
	}
	return config, nil
}
