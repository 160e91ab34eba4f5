package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/record"
)

// positionsVariable is how many positions a large store holds; CI takes 30,000.
const positionsVariable = "BARNABAS_TEST_POSITIONS"

// mount mounts what arguments name on a new folder until the test ends.
func mount(t *testing.T, arguments ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", append(arguments, dir)...).CombinedOutput(); err != nil {
		withoutMounts(t, "mount %s: %v\n%s", strings.Join(arguments, " "), err, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// withoutMounts skips a test that needs a mount, unless it must not be skipped.
func withoutMounts(t *testing.T, format string, arguments ...any) {
	t.Helper()
	if os.Getenv("BARNABAS_REQUIRE_MOUNTS") != "" {
		t.Fatalf(format, arguments...)
	}
	t.Skipf(format, arguments...)
}

// fill writes files into dir until it is full to the last byte, and returns how to empty it.
func fillDisk(t *testing.T, dir string) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 64 << 10; size > 0; size /= 2 {
		for {
			if _, err := f.Write(make([]byte, size)); err != nil {
				break
			}
		}
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// many are positions that need new pages.
func many(value string) (all []record.Checkpoint) {
	for i := range 2000 {
		all = append(all, at(fmt.Sprintf("k%05d", i), value+strings.Repeat(".", 100)))
	}
	return all
}

// troubled commits while the disk is in trouble, and after its end: no commit that
// was acknowledged is lost, and the store needs no restart.
func troubled(t *testing.T, dir string, trouble func() (end func())) {
	t.Helper()
	s := open(t, dir)
	commit(t, s, many("0")...)
	end := trouble()
	for n := range 3 {
		if err := s.Commit(context.Background(), many(strconv.Itoa(n+1))); err == nil {
			t.Fatalf("commit %d worked on a disk in trouble", n)
		}
	}
	copied := t.TempDir() // a crash now
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if found, err := open(t, copied).Load("k00000"); err != nil || len(found) != 1 {
		t.Errorf("after a crash in the trouble: %v, %v", found, err)
	}
	end()
	commit(t, s, at("after", "the trouble"))
	s.Close()
	s = open(t, dir)
	if found, err := s.Load(""); err != nil || len(found) != 2001 || s.Lost() {
		t.Errorf("%d positions, lost %v, %v", len(found), s.Lost(), err)
	}
}

func TestDiskThatIsFullAndFreedAgain(t *testing.T) {
	for name, dir := range map[string]string{
		"tmpfs": mount(t, "-t", "tmpfs", "-o", "size=2m", "tmpfs"),
		"ext4":  mountExt4(t),
	} {
		t.Run(name, func(t *testing.T) {
			troubled(t, dir, func() func() { return fillDisk(t, dir) })
		})
	}
}

// An agent that starts on a full disk begins with what is stored, and stores again
// when there is space.
func TestStartOnAFullDisk(t *testing.T) {
	dir := mount(t, "-t", "tmpfs", "-o", "size=2m", "tmpfs")
	lock, err := LockDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	commit(t, s, many("0")...)
	s.Close()
	empty := fillDisk(t, dir)
	if lock, err = LockDirectory(dir); err != nil {
		t.Fatalf("the lock of a full disk: %v", err)
	}
	defer lock.Release()
	s = open(t, dir)
	if found, err := s.Load("k0000"); err != nil || len(found) != 10 || found[9].Key != "k00009" || s.Lost() || s.First() {
		t.Fatalf("%v, %v, lost %v", found, err, s.Lost())
	}
	if err := s.Commit(context.Background(), many("1")); err == nil {
		t.Fatal("a commit on a full disk worked")
	}
	s.Close()
	s = open(t, dir) // once more
	empty()
	commit(t, s, at("k00000", "2"), record.Checkpoint{Key: "k00001"})
	commit(t, s, at("after", "3"))
	s.Close()
	s = open(t, dir)
	found, err := s.Load("")
	if err != nil || len(found) != 2000 || string(found[0].Value) != "3" || string(found[1].Value) != "2" {
		t.Errorf("%d positions, %v", len(found), err)
	}
}

func mountExt4(t *testing.T) string {
	t.Helper()
	return mount(t, "-o", "loop", newExt4(t))
}

// newExt4 makes an image of a small ext4.
func newExt4(t *testing.T) (image string) {
	t.Helper()
	image = filepath.Join(t.TempDir(), "image")
	if out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", "-m", "0", image, "4M").CombinedOutput(); err != nil {
		withoutMounts(t, "mkfs.ext4: %v\n%s", err, out)
	}
	return image
}

// deviceOf returns the name of the device that is mounted on dir.
func deviceOf(t *testing.T, dir string) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if words := strings.Fields(line); words[1] == dir {
			return filepath.Base(words[0])
		}
	}
	t.Fatalf("nothing is mounted on %s", dir)
	return ""
}

// An ext4 that meets an error becomes read-only, which the kernel is made to believe
// here. It stays so; the store goes on on the disk that takes its place.
func TestDiskThatBecomesReadOnlyAndIsReplaced(t *testing.T) {
	image := newExt4(t)
	dir := mount(t, "-o", "loop,errors=remount-ro", image)
	troubled(t, dir, func() func() {
		device := deviceOf(t, dir)
		if !strings.HasPrefix(device, "loop") { // older mounts name the image
			out, err := exec.CommandContext(t.Context(), "losetup", "-n", "-O", "NAME", "-j", image).Output()
			if err != nil {
				t.Fatal(err)
			}
			device = filepath.Base(strings.TrimSpace(string(out)))
		}
		if err := os.WriteFile(filepath.Join("/sys/fs/ext4", device, "trigger_fs_error"), []byte("test"), 0); err != nil {
			withoutMounts(t, "%v", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "probe"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Fatalf("the file system is not read-only: %v", err)
		}
		return func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(image)
			if err != nil {
				t.Fatal(err)
			}
			write(t, image+".new", content) // the old one stays as it is while files of it are open
			if out, err := exec.CommandContext(t.Context(), "mount", "-o", "loop", image+".new", dir).CombinedOutput(); err != nil {
				t.Fatalf("mount: %v\n%s", err, out)
			}
		}
	})
}

func TestCautionAboutFileSystems(t *testing.T) {
	for name, want := range map[int64]string{
		unix.NFS_SUPER_MAGIC: "network", unix.SMB2_SUPER_MAGIC: "network", unix.CIFS_SUPER_MAGIC: "network",
		unix.OVERLAYFS_SUPER_MAGIC: "container", unix.TMPFS_MAGIC: "in memory", unix.FUSE_SUPER_MAGIC: "FUSE",
		unix.EXT4_SUPER_MAGIC: "", unix.XFS_SUPER_MAGIC: "", unix.BTRFS_SUPER_MAGIC: "",
	} {
		if got := caution(name); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("file system %x: %q, want %q", name, got, want)
		}
	}
	lower, upper := t.TempDir(), mount(t, "-t", "tmpfs", "tmpfs")
	for _, name := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(upper, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]string{
		upper:        "in memory",
		mountExt4(t): "",
		mount(t, "-t", "overlay", "-o", fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, upper, upper), "overlay"): "overlay",
	} {
		got, err := Caution(dir)
		if err != nil || (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, %v, want %q", dir, got, err, want)
		}
	}
	if _, err := Caution(filepath.Join(upper, "nothing")); err == nil {
		t.Error("a folder that is not there has a file system")
	}
}

// A large store opens in bounded time and memory, and what was removed from it
// takes no space after the next start.
func TestLargeStoreOpensInBoundedTimeAndMemoryAndShrinks(t *testing.T) {
	keys := 30_000
	if text := os.Getenv(positionsVariable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		keys = n
	}
	dir := t.TempDir()
	s := open(t, dir)
	key := func(i int) string { return fmt.Sprintf("main\x00file\x00file/%016x%016x", i, 7) }
	for first := 0; first < keys; first += 10_000 {
		var some []record.Checkpoint
		for i := first; i < min(keys, first+10_000); i++ {
			some = append(some, at(key(i), strings.Repeat("/var/log/app/service.log", 6)))
		}
		commit(t, s, some...)
	}
	s.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := time.Now()
	s = open(t, dir)
	took := time.Since(begin)
	runtime.ReadMemStats(&after)
	size := fileSize(t, dir)
	begin = time.Now()
	commit(t, s, at(key(0), "changed"))
	one := time.Since(begin)
	begin = time.Now()
	if err := s.copyPrevious(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d positions: opened in %s with %d MiB allocated, %d bytes each on disk; one commit %s, the previous copy %s",
		keys, took, (after.TotalAlloc-before.TotalAlloc)>>20, size/int64(keys), one, time.Since(begin))
	if took > 10*time.Second+time.Duration(keys)*40*time.Microsecond {
		t.Errorf("it took %s to open", took)
	}
	if each := (after.TotalAlloc - before.TotalAlloc) / uint64(keys); each > 4000 {
		t.Errorf("%d bytes were allocated for each position", each)
	}
	const least = 16 << 20 // bbolt's files grow by so much
	if size > int64(keys)*400+least {
		t.Errorf("%d bytes on disk", size)
	}
	for first := 0; first < keys/10*9; first += 10_000 {
		var some []record.Checkpoint
		for i := first; i < min(keys/10*9, first+10_000); i++ {
			some = append(some, record.Checkpoint{Key: key(i)})
		}
		commit(t, s, some...)
	}
	s.Close()
	s = open(t, dir)
	if smaller := fileSize(t, dir); smaller > max(size/4, least) {
		t.Errorf("the file has %d bytes with all positions and %d with a tenth of them", size, smaller)
	}
	if found, err := s.Load(""); err != nil || len(found) != keys-keys/10*9 {
		t.Errorf("%d positions, %v", len(found), err)
	}
}

func fileSize(t *testing.T, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, positionsFile))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// updateVariable writes the golden file of the present format.
const updateVariable = "BARNABAS_TEST_UPDATE"

// goldenPositions are in the golden files of all versions.
func goldenPositions() []record.Checkpoint {
	return []record.Checkpoint{at("main\x00file\x00file/1", "first"), at("main\x00file\x00started", ""), at("z", strings.Repeat("long", 2000))}
}

// Files that earlier versions wrote, on a machine that was switched off or where an
// older version ran in between, are read as they are.
func TestFilesOfAllVersionsAreRead(t *testing.T) {
	present := filepath.Join("testdata", "positions.v"+formatVersion)
	if os.Getenv(updateVariable) != "" {
		dir := t.TempDir()
		s := open(t, dir)
		commit(t, s, goldenPositions()...)
		s.Close()
		image, err := os.ReadFile(filepath.Join(dir, positionsFile))
		if err != nil {
			t.Fatal(err)
		}
		write(t, present, image)
	}
	files, err := filepath.Glob("testdata/positions.v*")
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files: %v, %v", files, err)
	}
	for _, name := range files {
		image, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, as := range []string{positionsFile, previousFile} {
			dir := t.TempDir()
			write(t, filepath.Join(dir, as), image)
			s := open(t, dir)
			found, err := s.Load("")
			if err != nil || len(found) != 3 || s.Lost() || s.First() {
				t.Fatalf("%s as %s: %d positions, lost %v, first %v, %v", name, as, len(found), s.Lost(), s.First(), err)
			}
			for i, want := range goldenPositions() {
				if found[i].Key != want.Key || !bytes.Equal(found[i].Value, want.Value) {
					t.Errorf("%s as %s: %q is %.40q", name, as, found[i].Key, found[i].Value)
				}
			}
		}
	}
}

// The folder may be moved: nothing in it names its place.
func TestDirectoryMayBeMoved(t *testing.T) {
	dir := filled(t, 10)
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	s := open(t, moved)
	if !strings.HasPrefix(load(t, s), "k00000=new") || s.First() || s.Lost() {
		t.Error("positions did not move with their folder")
	}
	if s, err := Open(t.TempDir(), slog.New(slog.DiscardHandler), time.Now); err != nil || !s.First() {
		t.Errorf("an empty folder is not taken for the first start: %v", err)
	}
}
