// Package pythontest gives tests an interpreter with the packages that plugins in
// Python need, and installs such plugins as an operator does: as one executable
// file that names its interpreter. Without Python, tests that need it are skipped
// with a notice, unless BARNABAS_REQUIRE_PYTHON=1.
package pythontest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// RequireVariable is the environment variable that, when it is 1, makes a test
// that needs Python fail where there is none.
const RequireVariable = "BARNABAS_REQUIRE_PYTHON"

// VenvVariable names the folder of the virtual environments, instead of one in
// the user's cache.
const VenvVariable = "BARNABAS_PYTHON_VENVS"

// installTimeout bounds the making of a virtual environment.
const installTimeout = 5 * time.Minute

// Require returns the interpreter that has the pinned packages, made once per
// machine; tests of several processes wait for each other.
func Require(t testing.TB) string {
	t.Helper()
	interpreter, err := interpreter(t.Context(), Folder(t))
	switch {
	case err == nil:
	case os.Getenv(RequireVariable) == "1":
		t.Fatalf("%s=1, but %v", RequireVariable, err)
	default:
		t.Skipf("NOT TESTED WITH PYTHON: %v (%s=1 makes this a failure)", err, RequireVariable)
	}
	return interpreter
}

// Folder is the folder of the Python package, plugins/python.
func Folder(t testing.TB) string {
	t.Helper()
	folder, err := os.Getwd()
	for err == nil {
		candidate := filepath.Join(folder, "plugins", "python")
		if _, err := os.Stat(filepath.Join(candidate, "pyproject.toml")); err == nil {
			return candidate
		}
		if filepath.Dir(folder) == folder {
			err = errors.New("no plugins/python above the test's folder")
		}
		folder = filepath.Dir(folder)
	}
	t.Fatal(err)
	return ""
}

// interpreter makes the environment of the pinned packages unless it is there.
func interpreter(ctx context.Context, folder string) (string, error) {
	system, err := exec.LookPath("python3")
	if err != nil {
		return "", errors.New("python3 is missing: on Debian, apt-get install python3 python3-venv")
	}
	pins := filepath.Join(folder, "requirements.txt")
	name, err := environmentName(ctx, system, pins)
	if err != nil {
		return "", err
	}
	venv, err := cacheFolder(name)
	if err != nil {
		return "", err
	}
	unlock, err := lock(venv + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	interpreter := filepath.Join(venv, "bin", "python3")
	if _, err := os.Stat(filepath.Join(venv, completeMark)); err == nil {
		return interpreter, nil
	}
	if err := install(ctx, system, venv, pins); err != nil {
		return "", errors.Join(err, os.RemoveAll(venv))
	}
	return interpreter, nil
}

// completeMark is the file that an environment has once it is whole.
const completeMark = "complete"

// environmentName is that of the interpreter's version and of the pins.
func environmentName(ctx context.Context, system, pins string) (string, error) {
	version, err := exec.CommandContext(ctx, system, "-c", "import sys; print(sys.version, sys.executable)").Output()
	if err != nil {
		return "", fmt.Errorf("ask python3 for its version: %w", err)
	}
	pinned, err := os.ReadFile(pins)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append(version, pinned...))
	return "python-" + hex.EncodeToString(sum[:6]), nil
}

// cacheFolder names the folder of an environment and makes the one that it is in.
func cacheFolder(name string) (string, error) {
	folder := os.Getenv(VenvVariable)
	if folder == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache folder (or set %s): %w", VenvVariable, err)
		}
		folder = filepath.Join(cache, "barnabas-test")
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("make the folder for Python's environments: %w", err)
	}
	return filepath.Join(folder, name), nil
}

// install makes an environment and installs the pinned packages.
func install(ctx context.Context, system, venv, pins string) error {
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	for _, command := range [][]string{
		{system, "-m", "venv", "--clear", venv},
		{filepath.Join(venv, "bin", "python3"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--requirement", pins},
	} {
		if printed, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", command, err, printed)
		}
	}
	return os.WriteFile(filepath.Join(venv, completeMark), nil, 0o600)
}

// lock waits until no other process holds the file and returns what lets it go.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of Python's environment: %w", err)
	}
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
	}
	return func() { _ = file.Close() }, nil // closing lets the lock go
}

// Install makes one executable file of a plugin's script and the package beside
// it, with Python's zipapp, and returns its path in the folder to.
func Install(t testing.TB, script, to string) string {
	t.Helper()
	interpreter, tree := Require(t), t.TempDir()
	if err := os.CopyFS(filepath.Join(tree, "barnabas_plugin"), os.DirFS(filepath.Join(Folder(t), "barnabas_plugin"))); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(script)
	if err == nil {
		err = os.WriteFile(filepath.Join(tree, "__main__.py"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(to, filepath.Base(script))
	for _, arguments := range [][]string{
		{"-m", "compileall", "-q", "-b", tree},
		{"-m", "zipapp", tree, "--python", interpreter, "--output", file},
	} {
		command := exec.CommandContext(t.Context(), interpreter, arguments...)
		if printed, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", command, err, printed)
		}
	}
	return file
}
