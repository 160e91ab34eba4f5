package file

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// eachFileSystem runs test over folders that behave differently: the one for
// temporary files, tmpfs, which never gives an inode number twice, and ext4, which
// gives a removed file's to the next.
func eachFileSystem(t *testing.T, test func(t *testing.T, dir string)) {
	t.Run("temporary", func(t *testing.T) {
		dir := t.TempDir()
		openToAll(t, dir)
		test(t, dir)
	})
	t.Run("tmpfs", func(t *testing.T) { test(t, mount(t, "-t", "tmpfs", "-o", "size=64m,mode=755", "tmpfs")) })
	t.Run("ext4", func(t *testing.T) { test(t, mountExt4(t, "64M")) })
}

// mountExt4 makes a new ext4 of a size as mkfs understands it and mounts it.
func mountExt4(t *testing.T, size string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if out, err := exec.Command("mkfs.ext4", "-q", image, size).CombinedOutput(); err != nil {
		withoutMounts(t, "mkfs.ext4: %v\n%s", err, out)
	}
	return mount(t, "-o", "loop", image)
}

// mount mounts what arguments name on a new folder until the test ends.
func mount(t *testing.T, arguments ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	openToAll(t, dir)
	mountOn(t, dir, arguments...)
	return dir
}

// mountOn mounts what arguments name on dir until the test ends, or calls the
// function that it returns.
func mountOn(t *testing.T, dir string, arguments ...string) (unmount func()) {
	t.Helper()
	if out, err := exec.Command("mount", append(arguments, dir)...).CombinedOutput(); err != nil {
		withoutMounts(t, "mount %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
	unmount = sync.OnceFunc(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	t.Cleanup(unmount)
	return unmount
}

// mountOptions changes those of what is mounted on dir.
func mountOptions(t *testing.T, dir, options string) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", options, dir).CombinedOutput(); err != nil {
		withoutMounts(t, "mount -o %s: %v\n%s", options, err, out)
	}
}

// withoutMounts skips a test that needs a mount, unless it must not be skipped.
func withoutMounts(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("BARNABAS_REQUIRE_MOUNTS") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// openToAll lets users without root's rights reach dir.
func openToAll(t *testing.T, dir string) {
	t.Helper()
	for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		mustDo(t, os.Chmod(dir, 0o755))
	}
}
