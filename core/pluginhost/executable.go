package pluginhost

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// executable is a plugin's file, opened once: what is checked and hashed is
// what is run, whatever happens to the name meanwhile.
type executable struct {
	plugin string
	path   string   // absolute
	file   *os.File // owned; close-on-exec
	elf    bool     // run by its descriptor; a script's interpreter opens it by path
	sum    string   // hex sha256
}

// openExecutable opens and checks the file of a stage.
func openExecutable(spec *Spec) (*executable, error) {
	path, err := filepath.Abs(spec.binary())
	if err != nil {
		return nil, fmt.Errorf("find plugin %q: %w", spec.Plugin, err)
	}
	e := &executable{plugin: spec.Plugin, path: path}
	if spec.Path == "" && (spec.Plugin == "" || strings.ContainsAny(spec.Plugin, "/\x00")) {
		return nil, e.errorf(Missing, "name a plugin of plugin_dir, or give its file with `path`", "%q is no plugin's name", spec.Plugin)
	}
	// O_NONBLOCK keeps a FIFO in the plugin's place from blocking the agent.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, e.openError(err)
	}
	e.file = file
	err = e.check()
	if err == nil {
		err = e.verify(spec.Checksum)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return e, nil
}

// verify holds the opened file, which is the one that is executed, against the
// configured checksum; empty: any file will do.
func (e *executable) verify(checksum string) error {
	if checksum == "" || checksum == "sha256:"+e.sum {
		return nil
	}
	return e.errorf(WrongChecksum, "if the change of the file is yours, write the new checksum into the configuration; else put the right file back, and find out who replaced it",
		"%s has checksum sha256:%s, not the configured %s; it was not run", e.path, e.sum, checksum)
}

// close gives the descriptor back; running processes keep their own.
func (e *executable) close() { e.file.Close() }

// openError says why the file can't be opened.
func (e *executable) openError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return e.errorf(Missing, "install the plugin there, or correct its name, `path` or plugin_dir", "there is no file %s", e.path)
	case errors.Is(err, fs.ErrPermission):
		return e.errorf(NotExecutable, "let the agent's user read and execute it, and search the directories above it", "%s can't be opened by user %d", e.path, os.Geteuid())
	case errors.Is(err, unix.ENOTDIR):
		return e.errorf(Missing, "correct `path` or plugin_dir", "a part of %s is not a directory", e.path)
	default:
		return e.errorf(Missing, "correct `path` or plugin_dir", "%s can't be opened", e.path).because(err)
	}
}

// check looks at the opened file and at the directories above it.
func (e *executable) check() error {
	info, err := e.file.Stat()
	if err != nil {
		return fmt.Errorf("stat %s: %w", e.path, err)
	}
	if info.IsDir() {
		return e.errorf(Directory, "name the plugin's file", "%s is a directory", e.path)
	}
	if !info.Mode().IsRegular() {
		return e.errorf(NotPlugin, "name the plugin's file", "%s is not a regular file", e.path)
	}
	if info.Mode().Perm()&0o111 == 0 || unix.Access(e.path, unix.X_OK) != nil {
		return e.errorf(NotExecutable, "run chmod 0755 "+e.path, "%s is not executable", e.path)
	}
	why, err := untrusted(e.path, info)
	if err != nil {
		return fmt.Errorf("check who may change %s: %w", e.path, err)
	}
	if why != "" {
		return e.errorf(Untrusted, "give the file and every directory above it to root or to the agent's user, writable for nobody else", "%s, so another user could replace the plugin", why)
	}
	return e.identify()
}

// identify hashes the opened file and tells programs from scripts.
func (e *executable) identify() error {
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(e.file, 0, 1<<40)); err != nil {
		return fmt.Errorf("read %s: %w", e.path, err)
	}
	e.sum = hex.EncodeToString(hash.Sum(nil))
	magic := make([]byte, 4)
	n, err := e.file.ReadAt(magic, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", e.path, err)
	}
	switch {
	case bytes.Equal(magic[:n], []byte("\x7fELF")):
		e.elf = true
	case n >= 2 && string(magic[:2]) == "#!":
	default:
		return e.errorf(NotPlugin, "build the plugin for this machine, or begin a script with #!", "%s is neither a Linux program nor a script", e.path)
	}
	return nil
}

// errorf makes an error about this file.
func (e *executable) errorf(reason Reason, hint, format string, args ...any) *Error {
	return &Error{Reason: reason, Plugin: e.plugin, Path: e.path, Problem: fmt.Sprintf(format, args...), Hint: hint}
}
