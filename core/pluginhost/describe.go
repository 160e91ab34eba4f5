package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/barnabas-agent/barnabas/core/wire"
	wirev1 "github.com/barnabas-agent/barnabas/core/wire/v1"
)

const (
	describeTimeout = 5 * time.Second
	maxDescription  = 1 << 20 // bytes of the JSON that a plugin prints
	maxPluginName   = 64      // bytes
)

// File is a plugin's file as it was opened.
type File struct {
	SHA256 string // 64 hexadecimal digits
	Script bool   // run by an interpreter, which the checksum does not cover
}

// Describe returns what the plugin of a stage says of itself, and the file that
// said it. The host's cache answers for a file that it has seen; else the file
// is run. The error is an [*Error] where the plugin is at fault.
func (h *Host) Describe(ctx context.Context, spec Spec) (*wirev1.Description, File, error) {
	spec = spec.withDefaults()
	exe, err := openExecutable(&spec)
	if err != nil {
		return nil, File{}, err
	}
	defer exe.close()
	d, err := h.describe(ctx, &spec, exe)
	return d, File{SHA256: exe.sum, Script: !exe.elf}, err
}

// describe asks the cache, then `<file> describe`, then the process itself.
func (h *Host) describe(ctx context.Context, spec *Spec, exe *executable) (*wirev1.Description, error) {
	if d := h.cached(exe); d != nil {
		return d, nil
	}
	d, err := h.printedDescription(ctx, spec, exe)
	if err != nil {
		d, err = h.askedDescription(ctx, spec, exe)
	}
	if err != nil {
		return nil, err
	}
	h.remember(exe, d)
	return d, nil
}

// checkDescription refuses what the host can't run at this stage.
func checkDescription(spec *Spec, exe *executable, d *wirev1.Description) error {
	if !slices.Contains(d.ProtocolVersions, wire.ProtocolVersion) {
		return exe.errorf(ProtocolVersion, "install a version of the plugin that is built for this agent",
			"it speaks versions %v of the plugin protocol, the agent speaks %d", d.ProtocolVersions, wire.ProtocolVersion)
	}
	if d.Kind != spec.Kind.wire() {
		return exe.errorf(WrongKind, "name it in a block of its own kind", "it is a %s, not a %s", kindName(d.Kind), spec.Kind.fileKind())
	}
	return nil
}

// parseDescription reads the JSON that a plugin prints.
func parseDescription(printed []byte) (*wirev1.Description, error) {
	d := &wirev1.Description{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(printed, d); err != nil {
		return nil, fmt.Errorf("parse the description: %w", err)
	}
	return d, boundDescription(d)
}

// boundDescription refuses a description that can't be shown or logged.
func boundDescription(d *wirev1.Description) error {
	if d.Name == "" || len(d.Name) > maxPluginName || len(d.Version) > maxPluginName {
		return fmt.Errorf("a description needs a name, and name and version of at most %d bytes", maxPluginName)
	}
	if sanitize(d.Name+d.Version, 2*maxPluginName) != d.Name+d.Version {
		return errors.New("name or version of the description are not printable")
	}
	if len(d.ConfigSchema) > maxDescription {
		return fmt.Errorf("the schema of the configuration is longer than %d bytes", maxDescription)
	}
	return nil
}

// printedDescription runs `<file> describe` in the stage's own environment: a
// script may find its interpreter and its modules by it.
func (h *Host) printedDescription(ctx context.Context, spec *Spec, exe *executable) (*wirev1.Description, error) {
	ctx, cancel := context.WithTimeout(ctx, describeTimeout)
	defer cancel()
	p, err := h.starter.start(exe, []string{"describe"}, environment(spec), spec.MemoryMax)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { p.signal(unix.SIGKILL) })
	defer stop()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		newOutput(slog.New(slog.DiscardHandler)).drain(p.stderr, p.stderr, false)
	}()
	printed, readErr := io.ReadAll(io.LimitReader(p.stdout, maxDescription+1))
	if len(printed) > maxDescription {
		p.signal(unix.SIGKILL)
		readErr = fmt.Errorf("it printed more than %d bytes", maxDescription)
	}
	<-p.exited
	<-drained
	p.stdout.Close()
	if err := errors.Join(readErr, ctx.Err()); err != nil {
		return nil, fmt.Errorf("run %s describe: %w", exe.path, err)
	}
	if !p.cmd.ProcessState.Success() {
		return nil, fmt.Errorf("run %s describe: %s", exe.path, p.status())
	}
	return parseDescription(printed)
}

// askedDescription starts the plugin and asks it: plugins in other languages
// need not know `describe`.
func (h *Host) askedDescription(ctx context.Context, spec *Spec, exe *executable) (*wirev1.Description, error) {
	i, err := h.launch(ctx, spec, exe, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer i.discard()
	ctx, cancel := context.WithTimeout(ctx, describeTimeout)
	defer cancel()
	d, err := i.control.Describe(ctx, &wirev1.DescribeRequest{})
	if err == nil {
		err = boundDescription(d)
	}
	if err != nil {
		failed := exe.errorf(Failed, "report it to the plugin's author", "it does not describe itself").because(err)
		failed.Output = i.output.last(outputShown)
		return nil, failed
	}
	return d, nil
}

// cacheFile is where a description is kept. The name holds the format's version.
func (h *Host) cacheFile(exe *executable) string {
	return filepath.Join(h.options.CacheDir, exe.sum+".v1.json")
}

// cached returns the description kept for the file, if there is one that can be
// read. There is none for a script: the modules that it is of may change while
// the script stays as it is.
func (h *Host) cached(exe *executable) *wirev1.Description {
	if h.options.CacheDir == "" || !exe.elf {
		return nil
	}
	file, err := os.OpenFile(h.cacheFile(exe), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer file.Close()
	kept, err := io.ReadAll(io.LimitReader(file, maxDescription+1))
	if err != nil {
		return nil
	}
	d, err := parseDescription(kept)
	if err != nil {
		return nil
	}
	return d
}

// remember keeps a description; without one the next start only takes longer.
func (h *Host) remember(exe *executable, d *wirev1.Description) {
	if h.options.CacheDir == "" || !exe.elf {
		return
	}
	if err := writeCache(h.cacheFile(exe), d); err != nil {
		h.options.Logger.Warn("can't keep a plugin's description; it is asked again at the next start", "plugin", exe.plugin, "error", err)
	}
}

// writeCache writes a file that is whole or not there, whatever happens meanwhile.
func writeCache(path string, d *wirev1.Description) error {
	text, err := protojson.Marshal(d)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+strings.TrimSuffix(filepath.Base(path), ".json")+"-*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(text)
	err = errors.Join(err, temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		removed := os.Remove(temporary.Name())
		if removed != nil && !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, removed)
		}
	}
	return err
}
