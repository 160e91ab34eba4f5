package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/barnabas-agent/barnabas/core/crashpoint"
	"github.com/barnabas-agent/barnabas/core/record"
)

const (
	positionsFile = "positions"
	previousFile  = "positions.previous"
	newFile       = "positions.new"

	positionsBucket = "positions"
	metaBucket      = "meta"
	formatKey       = "format"
	formatVersion   = "1"
	sumKey          = "sum"
	lostKey         = "lost"

	// previousAge is how old the previous copy may become while commits go on.
	previousAge = 10 * time.Minute
	maxKeySize  = bolt.MaxKeySize

	// fillStep is how many positions a new file takes at once, and fillPercent how
	// full its pages become: keys come in order, and later ones in between.
	fillStep    = 10_000
	fillPercent = 0.9
)

// Store holds the positions of one data directory. Its methods may be called
// concurrently; commits follow one another.
type Store struct {
	dir string
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex // guards all below, and is held through a commit's fsync
	db     *bolt.DB   // nil while the file could not be written since Open
	read   []pair     // what Open read, while db is nil
	sum    sum
	tried  sum       // that a commit which failed would have made
	copied time.Time // when the previous copy was made
	first  bool      // there was neither file
	lost   bool
	marked bool  // the file says that positions were lost
	stale  bool  // a write failed: what is on disk is unknown until a new file is written
	broken error // bbolt panicked: its locks are in an unknown state
}

// Open reads the positions in dir, which must exist and should be locked by the
// caller (see [LockDirectory]), and makes them ready for commits. A damaged file
// is set aside, logged as an error, and replaced by its previous copy. It fails
// when a file is a link, not a regular file, not the agent's own, or of a newer format.
// On a full disk it goes on with what it read, and the first commit that finds
// space writes the file: files that rotate meanwhile must be held open by somebody.
func Open(dir string, log *slog.Logger, now func() time.Time) (*Store, error) {
	s := &Store{dir: dir, log: log, now: now, copied: now()}
	current, previous := s.path(positionsFile), s.path(previousFile)
	c, err := s.recover(current, previous)
	if err != nil {
		return nil, fmt.Errorf("positions: %w", err)
	}
	s.lost, s.marked = c.lost, c.lost
	s.sum, err = writeFile(s.path(newFile), c)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		s.read, s.stale = c.pairs, true
		log.Error("positions: the disk is full: the agent begins with those that are stored, and stores none until there is space", "dir", dir, "error", err)
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("positions: write %s: %w", s.path(newFile), err)
	}
	// Between the renames the previous copy alone is there, and complete.
	crashpoint.At("checkpoint.open.written")
	if err := os.Rename(current, previous); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("positions: keep the previous copy: %w", err)
	}
	crashpoint.At("checkpoint.open.kept")
	if err := s.install(); err != nil {
		return nil, fmt.Errorf("positions: %w", err)
	}
	return s, nil
}

// recover returns the best positions that dir holds: the current file's, else
// the previous copy's, else none. It moves damaged files out of the way.
func (s *Store) recover(current, previous string) (contents, error) {
	c, err := readFile(current)
	if err == nil {
		return c, nil
	}
	missing := errors.Is(err, os.ErrNotExist)
	damaged, err := s.aside(current, err)
	if err != nil {
		return contents{}, err
	}
	c, err = readFile(previous)
	if err == nil {
		s.log.Warn("positions: the previous copy is used; what was delivered since it was made is delivered again",
			"file", previous, "keys", len(c.pairs), "current_missing", missing)
		return c, nil
	}
	damagedToo, err := s.aside(previous, err)
	if err != nil {
		return contents{}, err
	}
	s.first = !damaged && !damagedToo
	return contents{lost: damaged || damagedToo}, nil
}

// aside moves the file away if cause says that it is damaged, and passes on any
// other cause than that it is missing.
func (s *Store) aside(path string, cause error) (moved bool, err error) {
	var damage *damagedError
	switch {
	case errors.Is(cause, os.ErrNotExist):
		return false, nil
	case !errors.As(cause, &damage):
		return false, cause
	}
	target, err := setAside(path, s.now())
	if err != nil {
		return false, err
	}
	s.log.Error("positions: a file failed its check and was set aside", "file", path, "moved_to", target, "error", damage.reason)
	return true, nil
}

// Lost reports that positions were damaged and no copy was whole, so that the
// absence of a position says nothing: a source must not take this for its first
// start. It holds until the process ends, and across starts until the first commit.
func (s *Store) Lost() bool { return s.lost }

// First reports that the directory held no positions when the store was opened,
// as before the very first start, or where it is not the one it was.
func (s *Store) First() bool { return s.first }

// Load returns the positions whose key begins with prefix, ordered by key. The
// values are the caller's.
func (s *Store) Load(prefix string) ([]record.Checkpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []record.Checkpoint
	err := s.guard(func() error {
		pairs, err := s.pairs(prefix)
		for _, p := range pairs {
			found = append(found, record.Checkpoint{Key: p.key, Value: p.value})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("positions: load %q: %w", prefix, err)
	}
	return found, nil
}

// Commit makes positions durable, all or none; a nil Value removes its key. When
// it returns nil they survive the loss of power. After an error the next commit
// writes a new file, since an fsync that failed once proves nothing later. ctx is
// looked at before the write begins, which is then not interrupted.
func (s *Store) Commit(ctx context.Context, positions []record.Checkpoint) error {
	for _, p := range positions {
		if p.Key == "" || len(p.Key) > maxKeySize {
			return fmt.Errorf("positions: key of %d bytes, 1 to %d are possible", len(p.Key), maxKeySize)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil || len(positions) == 0 {
		return err
	}
	if err := s.guard(func() error { return s.commit(positions) }); err != nil {
		return fmt.Errorf("positions: commit to %s: %w", s.path(positionsFile), err)
	}
	s.refreshPrevious()
	return nil
}

func (s *Store) commit(positions []record.Checkpoint) error {
	if s.stale {
		if err := s.rewrite(); err != nil {
			return err
		}
	}
	next := s.sum
	crashpoint.At("checkpoint.commit")
	err := s.db.Update(func(tx *bolt.Tx) error {
		bucket, meta := tx.Bucket([]byte(positionsBucket)), tx.Bucket([]byte(metaBucket))
		for _, p := range positions {
			if err := put(bucket, &next, p); err != nil {
				return err
			}
		}
		if s.marked {
			if err := meta.Delete([]byte(lostKey)); err != nil {
				return err
			}
		}
		return meta.Put([]byte(sumKey), next.encode())
	})
	if err != nil {
		s.stale, s.tried = true, next
		return err
	}
	crashpoint.At("checkpoint.committed")
	s.sum, s.marked = next, false
	return nil
}

// put changes one key and the sum over all.
func put(bucket *bolt.Bucket, total *sum, p record.Checkpoint) error {
	key := []byte(p.Key)
	if old := bucket.Get(key); old != nil {
		value, err := decodeValue(p.Key, old)
		if err != nil {
			return fmt.Errorf("key %q: %w", p.Key, err)
		}
		total.remove(p.Key, value)
	}
	if p.Value == nil {
		return bucket.Delete(key)
	}
	total.add(p.Key, p.Value)
	return bucket.Put(key, encodeValue(p.Key, p.Value))
}

// pairs returns those whose key begins with prefix, ordered by key.
func (s *Store) pairs(prefix string) ([]pair, error) {
	if s.db != nil {
		return readAll(s.db, prefix)
	}
	var found []pair
	for _, p := range s.read {
		if strings.HasPrefix(p.key, prefix) {
			found = append(found, pair{key: p.key, value: bytes.Clone(p.value)})
		}
	}
	return found, nil
}

// rewrite continues in a new file, written from what bbolt has mapped, or from the
// old file where it has lost that.
func (s *Store) rewrite() error {
	pairs, err := s.pairs("")
	if errors.Is(err, bolterrors.ErrInvalidMapping) {
		pairs, err = s.readCurrent()
	}
	if err != nil {
		return err
	}
	crashpoint.At("checkpoint.rewrite")
	total, err := writeFile(s.path(newFile), contents{pairs: pairs, lost: s.marked})
	if err != nil {
		return err
	}
	crashpoint.At("checkpoint.rewrite.written")
	old := s.db
	if err := s.install(); err != nil {
		return err
	}
	s.sum, s.stale, s.read = total, false, nil
	if old == nil {
		return nil
	}
	if err := old.Close(); err != nil {
		s.log.Warn("positions: the replaced file did not close", "error", err)
	}
	return nil
}

// readCurrent reads the current file, which must hold what was last committed, or
// what the commit that failed would have made of it.
func (s *Store) readCurrent() ([]pair, error) {
	c, err := readFile(s.path(positionsFile))
	if err != nil {
		return nil, err
	}
	var held sum
	for _, p := range c.pairs {
		held.add(p.key, p.value)
	}
	if held != s.sum && held != s.tried {
		return nil, fmt.Errorf("%s holds other positions than were committed: restart the agent", s.path(positionsFile))
	}
	return c.pairs, nil
}

// install makes the new file the current one, durably, and opens it.
func (s *Store) install() error {
	db, err := openDatabase(s.path(newFile), 0)
	if err != nil {
		return err
	}
	crashpoint.At("checkpoint.install")
	err = os.Rename(s.path(newFile), s.path(positionsFile))
	if err == nil {
		crashpoint.At("checkpoint.install.renamed")
		err = syncDir(s.dir)
		crashpoint.At("checkpoint.install.synced")
	}
	if err != nil {
		db.Close()
		return err
	}
	s.db = db
	return nil
}

// refreshPrevious replaces the previous copy when it is old. A failure costs
// duplicates after a later damage, so it is logged and tried again.
func (s *Store) refreshPrevious() {
	if s.now().Sub(s.copied) < previousAge {
		return
	}
	s.copied = s.now()
	if err := s.guard(s.copyPrevious); err != nil {
		s.log.Warn("positions: the previous copy could not be refreshed", "file", s.path(previousFile), "error", err)
	}
}

func (s *Store) copyPrevious() error {
	pairs, err := readAll(s.db, "")
	if err != nil {
		return err
	}
	if _, err := writeFile(s.path(newFile), contents{pairs: pairs, lost: s.marked}); err != nil {
		return err
	}
	crashpoint.At("checkpoint.previous.written")
	if err := os.Rename(s.path(newFile), s.path(previousFile)); err != nil {
		return err
	}
	crashpoint.At("checkpoint.previous.renamed")
	return syncDir(s.dir)
}

// Close releases the file. A commit that is under way ends first.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil // after a panic inside bbolt, Close could wait for a lock for ever
	}
	s.broken = errors.New("the store is closed")
	if s.db == nil {
		return nil
	}
	err := s.db.Close()
	s.db = nil
	return err
}

// guard runs f and turns a panic of bbolt, or a fault in the mapped file, into
// an error that stays: the process must be started anew.
func (s *Store) guard(f func() error) (err error) {
	if s.broken != nil {
		return s.broken
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			s.broken = fmt.Errorf("the file was damaged while in use (%v): restart the agent, which falls back to the previous copy", r)
			err = s.broken
		}
	}()
	return f()
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// openDatabase opens a positions file that this process wrote, or makes an empty
// one. At least size bytes of it are mapped.
func openDatabase(path string, size int) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{PageSize: pageSize, InitialMmapSize: size, Timeout: time.Second, OpenFile: openOwn})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}

// writeFile writes a complete, durable positions file in place of what path
// names. After an error it leaves nothing there, which a full disk needs for others.
func writeFile(path string, c contents) (total sum, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, removeIfThere(path))
		}
	}()
	if err := removeIfThere(path); err != nil {
		return total, err
	}
	size := 64 << 10
	for _, p := range c.pairs {
		size += 2 * (elementSize + len(p.key) + valueHeaderSize + len(p.value))
	}
	db, err := openDatabase(path, size) // mapped as large as it becomes: to map it anew copies all that is not written
	if err != nil {
		return total, err
	}
	db.NoSync = true // once at the end is enough: until then nobody relies on it
	if total, err = fill(db, c); err == nil {
		err = db.Sync()
	}
	if err != nil {
		db.Close()
		return total, err
	}
	if err := db.Close(); err != nil {
		return total, err
	}
	return total, syncFile(path)
}

// fill puts the contents into an empty database, by and by, since a transaction is
// kept in memory until it ends.
func fill(db *bolt.DB, c contents) (total sum, err error) {
	for first := 0; first == 0 || first < len(c.pairs); first += fillStep {
		err := db.Update(func(tx *bolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte(positionsBucket))
			if err != nil {
				return err
			}
			bucket.FillPercent = fillPercent
			for _, p := range c.pairs[first:min(len(c.pairs), first+fillStep)] {
				total.add(p.key, p.value)
				if err := bucket.Put([]byte(p.key), encodeValue(p.key, p.value)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return total, err
		}
	}
	return total, db.Update(func(tx *bolt.Tx) error { return writeMeta(tx, total, c.lost) })
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func writeMeta(tx *bolt.Tx, total sum, lost bool) error {
	meta, err := tx.CreateBucket([]byte(metaBucket))
	if err != nil {
		return err
	}
	if lost {
		if err := meta.Put([]byte(lostKey), []byte{1}); err != nil {
			return err
		}
	}
	if err := meta.Put([]byte(formatKey), []byte(formatVersion)); err != nil {
		return err
	}
	return meta.Put([]byte(sumKey), total.encode())
}

// readAll returns copies of the pairs whose key begins with prefix, ordered by key.
func readAll(db *bolt.DB, prefix string) ([]pair, error) {
	var pairs []pair
	err := db.View(func(tx *bolt.Tx) error {
		cursor := tx.Bucket([]byte(positionsBucket)).Cursor()
		for k, v := cursor.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, v = cursor.Next() {
			key := string(k)
			value, err := decodeValue(key, v)
			if err != nil {
				return fmt.Errorf("key %q: %w", key, err)
			}
			pairs = append(pairs, pair{key: key, value: value})
		}
		return nil
	})
	return pairs, err
}
