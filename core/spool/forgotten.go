package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"github.com/barnabas-agent/barnabas/core/metric"
	"github.com/barnabas-agent/barnabas/core/record"
)

// Owner names the source that a spool is of.
type Owner struct{ Pipeline, Source string }

// Owners returns the sources that have a spool below dataDir, those that are
// configured no more among them.
func Owners(dataDir string) ([]Owner, error) {
	paths, err := fs.Glob(os.DirFS(filepath.Join(dataDir, folder)), "*/*")
	if err != nil {
		return nil, fmt.Errorf("list the spools: %w", err)
	}
	var owners []Owner
	for _, path := range paths {
		pipeline, err := url.PathUnescape(filepath.Dir(path))
		source, err2 := url.PathUnescape(filepath.Base(path))
		if errors.Join(err, err2) == nil && Dir(dataDir, pipeline, source) == filepath.Join(dataDir, folder, path) {
			owners = append(owners, Owner{pipeline, source})
		}
	}
	return owners, nil
}

// Waiting returns how many bytes a spool that no source has open holds behind
// the position that is saved under key.
func Waiting(dir, key string, saved []record.Checkpoint) (int64, error) {
	if info, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return 0, nil
	}
	s, err := Open(Config{
		Dir: dir, Kind: "none", Host: "none", MaxSize: 8 * maxBody, MaxEntry: maxBody - MaxPeer, Key: key, Saved: saved,
		Logger: slog.New(slog.DiscardHandler), Metrics: metric.New(), // it is not this agent's to count
	})
	if err != nil {
		return 0, err
	}
	return s.Status().Lag, s.Close()
}
