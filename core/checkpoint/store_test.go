package checkpoint

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/record"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, slog.New(slog.NewTextHandler(io.Discard, nil)), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func commit(t *testing.T, s *Store, positions ...record.Checkpoint) {
	t.Helper()
	if err := s.Commit(context.Background(), positions); err != nil {
		t.Fatal(err)
	}
}

func at(key, value string) record.Checkpoint {
	return record.Checkpoint{Key: key, Value: []byte(value)}
}

// load returns all positions as key=value words.
func load(t *testing.T, s *Store) string {
	t.Helper()
	found, err := s.Load("")
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, p := range found {
		words = append(words, p.Key+"="+string(p.Value))
	}
	return strings.Join(words, " ")
}

// filled makes a directory whose current file says "new" for every key and
// whose previous copy says "old".
func filled(t *testing.T, keys int) string {
	t.Helper()
	dir := t.TempDir()
	for _, value := range []string{"old", "new"} {
		s := open(t, dir)
		var positions []record.Checkpoint
		for i := range keys {
			positions = append(positions, at(fmt.Sprintf("k%05d", i), value+strings.Repeat(".", 60)))
		}
		commit(t, s, positions...)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCommittedPositionsAreThereAfterAReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	commit(t, s, at("a/1", "x"), at("a/2", "y"), at("b/1", "z"), at("b/empty", ""))
	commit(t, s, at("a/1", "x2"), record.Checkpoint{Key: "a/2"}, record.Checkpoint{Key: "never"})
	s.Close()
	s = open(t, dir)
	if got := load(t, s); got != "a/1=x2 b/1=z b/empty=" {
		t.Errorf("loaded %q", got)
	}
	only, err := s.Load("b/1")
	if err != nil || len(only) != 1 || only[0].Key != "b/1" {
		t.Errorf("Load of a prefix gave %v, %v", only, err)
	}
}

func TestCommitRefusesKeysThatCannotBeStored(t *testing.T) {
	s := open(t, t.TempDir())
	for _, key := range []string{"", strings.Repeat("k", maxKeySize+1)} {
		if err := s.Commit(context.Background(), []record.Checkpoint{at("good", "1"), at(key, "1")}); err == nil {
			t.Errorf("a key of %d bytes was taken", len(key))
		}
	}
	if got := load(t, s); got != "" {
		t.Errorf("a refused commit left %q", got)
	}
}

func TestConcurrentCommitsAllArrive(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var wait sync.WaitGroup
	for w := range 8 {
		wait.Go(func() {
			for n := range 10 {
				err := s.Commit(context.Background(), []record.Checkpoint{at(fmt.Sprintf("w%d", w), fmt.Sprint(n)), at(fmt.Sprintf("w%d/%d", w, n), "x")})
				if err != nil {
					t.Error(err)
				}
				if _, err := s.Load("w"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	s.Close()
	found, err := open(t, dir).Load("w")
	if err != nil || len(found) != 8+80 {
		t.Fatalf("%d positions, %v", len(found), err)
	}
	for _, p := range found {
		if !strings.Contains(p.Key, "/") && string(p.Value) != "9" {
			t.Errorf("%s ended as %s", p.Key, p.Value)
		}
	}
}

// TestDamage damages the current file in many ways and expects all positions to
// be there at the next start, as new or as old, never none and never garbage.
func TestDamage(t *testing.T) {
	dir := filled(t, 150)
	good, err := os.ReadFile(filepath.Join(dir, positionsFile))
	if err != nil {
		t.Fatal(err)
	}
	previous, err := os.ReadFile(filepath.Join(dir, previousFile))
	if err != nil {
		t.Fatal(err)
	}
	damages := map[string][]byte{
		"zeroed": make([]byte, len(good)),
		"ones":   bytes.Repeat([]byte{0xff}, len(good)),
		"text":   []byte("positions: none\n"),
	}
	for _, n := range []int{0, 1, 15, 80, pageSize, 2 * pageSize, len(good) / 2} {
		damages[fmt.Sprintf("cut to %d", n)] = good[:n]
	}
	for page := range len(good) / pageSize {
		hole := append([]byte{}, good...)
		clear(hole[page*pageSize : (page+1)*pageSize])
		damages[fmt.Sprintf("page %d zeroed", page)] = hole
	}
	for name, content := range damages {
		fresh := t.TempDir()
		write(t, filepath.Join(fresh, positionsFile), content)
		write(t, filepath.Join(fresh, previousFile), previous)
		s := open(t, fresh)
		found, err := s.Load("")
		if err != nil || s.Lost() {
			t.Errorf("%s: lost %v, %v", name, s.Lost(), err)
		}
		checkAllOldOrNew(t, name, found, 150)
		if _, err := parse(content); err != nil {
			if aside, _ := filepath.Glob(filepath.Join(fresh, "positions.damaged-*")); len(aside) != 1 {
				t.Errorf("%s: set aside: %v", name, aside)
			}
		}
		commit(t, s, at("after", "1"))
		s.Close()
	}
}

// TestParseTakesAnyByteFlipped flips one bit of every byte of a file, makes it
// zero with all of its sector, and cuts the file there.
func TestParseTakesAnyByteFlipped(t *testing.T) {
	dir := filled(t, 40)
	image, err := os.ReadFile(filepath.Join(dir, positionsFile))
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, image []byte) {
		c, err := parse(image)
		if err != nil {
			return
		}
		var found []record.Checkpoint
		for _, p := range c.pairs {
			found = append(found, record.Checkpoint{Key: p.key, Value: p.value})
		}
		checkAllOldOrNew(t, name, found, 40)
	}
	for i := range image {
		image[i] ^= 1 << (i % 8)
		check(fmt.Sprintf("byte %d flipped", i), image)
		image[i] ^= 1 << (i % 8)
		if i%7 == 0 {
			check(fmt.Sprintf("cut to %d", i), image[:i])
		}
		if i%512 == 0 {
			sector := bytes.Clone(image[i : i+512])
			clear(image[i : i+512])
			check(fmt.Sprintf("sector at %d zeroed", i), image)
			copy(image[i:], sector)
		}
	}
}

func checkAllOldOrNew(t *testing.T, name string, found []record.Checkpoint, keys int) {
	t.Helper()
	if len(found) != keys {
		t.Errorf("%s: %d positions", name, len(found))
		return
	}
	for _, p := range found {
		if v := string(p.Value[:3]); (v != "old" && v != "new") || string(found[0].Value) != string(p.Value) {
			t.Errorf("%s: %s has %q", name, p.Key, p.Value)
		}
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestBothCopiesDamagedIsSaidUntilTheFirstCommit(t *testing.T) {
	dir := filled(t, 3)
	write(t, filepath.Join(dir, positionsFile), []byte("x"))
	write(t, filepath.Join(dir, previousFile), []byte("y"))
	for range 2 { // a start that ends before its first commit changes nothing
		s := open(t, dir)
		if !s.Lost() || load(t, s) != "" {
			t.Fatalf("lost %v, loaded %q", s.Lost(), load(t, s))
		}
		s.Close()
	}
	s := open(t, dir)
	commit(t, s, at("k", "v"))
	if !s.Lost() {
		t.Error("the commit changed what Lost says to this process")
	}
	s.Close()
	if s = open(t, dir); s.Lost() || load(t, s) != "k=v" {
		t.Errorf("after a commit: lost %v, %q", s.Lost(), load(t, s))
	}
	if aside, _ := filepath.Glob(filepath.Join(dir, "positions.damaged-*")); len(aside) != 2 {
		t.Errorf("set aside: %v", aside)
	}
}

func TestFreshDirectoryLostNothing(t *testing.T) {
	if s := open(t, t.TempDir()); s.Lost() || load(t, s) != "" {
		t.Error("a new directory has a past")
	}
}

func TestMissingCurrentFileUsesPrevious(t *testing.T) {
	dir := filled(t, 1)
	if err := os.Remove(filepath.Join(dir, positionsFile)); err != nil {
		t.Fatal(err)
	}
	if got := load(t, open(t, dir)); !strings.HasPrefix(got, "k00000=old") {
		t.Errorf("loaded %q", got)
	}
}

func TestPreviousCopyIsRefreshedEveryTenMinutes(t *testing.T) {
	dir := t.TempDir()
	clock := time.Now()
	s, err := Open(dir, slog.New(slog.DiscardHandler), func() time.Time { return clock })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	commit(t, s, at("k", "1"))
	if _, err := os.Stat(filepath.Join(dir, previousFile)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a copy after one commit: %v", err)
	}
	clock = clock.Add(previousAge)
	commit(t, s, at("k", "2"))
	c, err := readFile(filepath.Join(dir, previousFile))
	if err != nil || len(c.pairs) != 1 || string(c.pairs[0].value) != "2" {
		t.Fatalf("previous copy holds %v, %v", c.pairs, err)
	}
}

func TestNewerFormatIsRefusedAndLeftAlone(t *testing.T) {
	dir := filled(t, 1)
	path := filepath.Join(dir, positionsFile)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte(metaBucket)).Put([]byte(formatKey), []byte("7")) })
	if err != nil || db.Close() != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	_, err = Open(dir, slog.New(slog.DiscardHandler), time.Now)
	if err == nil || !strings.Contains(err.Error(), `format "7"`) || !strings.Contains(err.Error(), "start the agent version") {
		t.Fatalf("error %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file was changed")
	}
}

func TestFilesThatAreNotOursAreRefused(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, []byte("s"))
	for name, replace := range map[string]func(path string) error{
		"symbolic link":  func(path string) error { return os.Symlink(secret, path) },
		"regular file":   func(path string) error { return os.Mkdir(path, 0o700) },
		"not a regular":  func(path string) error { return unix.Mkfifo(path, 0o600) },
		"mode 0600":      func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o622)) },
		"belongs to uid": func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), chownAway(path)) },
	} {
		for _, file := range []string{positionsFile, previousFile} {
			dir := t.TempDir()
			path := filepath.Join(dir, file)
			if err := replace(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.Lstat(path)
			_, err := Open(dir, slog.New(slog.DiscardHandler), time.Now)
			if name == "belongs to uid" && os.Geteuid() != 0 {
				continue // only root can give a file away
			}
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s as %s: error %v", name, file, err)
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("%s as %s was touched", name, file)
			}
		}
	}
}

func chownAway(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(path, 12345, 12345)
}

// TestFullDisk stands in for a full disk with a limit on file sizes, which the
// kernel enforces at the same place.
func TestFullDisk(t *testing.T) {
	signal.Ignore(unix.SIGXFSZ)
	defer signal.Reset(unix.SIGXFSZ)
	dir := filled(t, 100)
	s := open(t, dir)
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 3 * pageSize, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	var failures []error
	for n := range 3 {
		failures = append(failures, s.Commit(context.Background(), []record.Checkpoint{at("k00000", fmt.Sprint(n))}))
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	for n, err := range failures {
		if err == nil {
			t.Fatalf("commit %d on a full disk succeeded", n)
		}
	}
	commit(t, s, at("k00001", "written again"))
	s.Close()
	c, err := readFile(filepath.Join(dir, positionsFile))
	if err != nil || len(c.pairs) != 100 || string(c.pairs[1].value) != "written again" {
		t.Fatalf("%d positions, %v", len(c.pairs), err)
	}
}

func TestFileCutWhileInUseIsAnErrorNotACrash(t *testing.T) {
	dir := filled(t, 500)
	s := open(t, dir)
	if err := os.Truncate(filepath.Join(dir, positionsFile), 2*pageSize); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(""); err == nil || !strings.Contains(err.Error(), "restart the agent") {
		t.Fatalf("Load of a cut file: %v", err)
	}
	if err := s.Commit(context.Background(), []record.Checkpoint{at("k", "v")}); err == nil {
		t.Fatal("a commit after it succeeded")
	}
	s.Close()
	if s := open(t, dir); s.Lost() || !strings.HasPrefix(load(t, s), "k00000=new") {
		t.Error("the previous copy was not used")
	}
}

func TestCommitAfterCloseAndAfterContextEnd(t *testing.T) {
	s := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Commit(ctx, []record.Checkpoint{at("k", "v")}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	s.Close()
	if err := s.Commit(context.Background(), []record.Checkpoint{at("k", "v")}); err == nil {
		t.Error("a closed store took a commit")
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestPageCyclesEnd(t *testing.T) {
	dir := filled(t, 2000)
	image, err := os.ReadFile(filepath.Join(dir, positionsFile))
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for page := 2; page < len(image)/pageSize; page++ {
		if binary.NativeEndian.Uint16(image[page*pageSize+8:]) != branchPage {
			continue
		}
		looped := append([]byte{}, image...)
		binary.NativeEndian.PutUint64(looped[page*pageSize+pageHeaderSize+8:], uint64(page))
		if _, err := parse(looped); err != nil {
			refused++
		}
	}
	if refused == 0 {
		t.Fatal("no page that refers to itself was noticed")
	}
}
