package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// maxFile bounds one configuration file.
const maxFile = 1 << 20

// Options are what Load depends on beside the files. The zero value loads as
// `run` does.
type Options struct {
	// LookupEnv is what env() and credential() see; nil: os.LookupEnv.
	LookupEnv func(name string) (string, bool)
	// Hostname is what hostname() gives; nil: os.Hostname.
	Hostname func() (string, error)
	// AllowMissingCredentials makes an unset $CREDENTIALS_DIRECTORY a warning:
	// credential() gives a placeholder then.
	AllowMissingCredentials bool
	// IgnoreSecurity leaves the values in tls and sasl blocks unread, for
	// development: they may name credentials and files that are not there.
	IgnoreSecurity bool
	// AllowUnavailable reads what this version does not do as well, so that its
	// language can be tested.
	AllowUnavailable bool
	// HasGSSAPI says that the linked librdkafka can authenticate by GSSAPI.
	HasGSSAPI bool
}

// DefaultPath is where a configuration is looked for when none is named:
// agent.hcl in the working directory, else in /etc/barnabas.
func DefaultPath() string {
	const name = "agent.hcl"
	if _, err := os.Stat(name); err == nil {
		return name
	}
	return filepath.Join("/etc/barnabas", name)
}

// Load reads and checks the configuration at path, a file or a folder whose
// *.hcl are read in name order; an empty path is DefaultPath. It reports all
// errors at once. The Config is never nil; it can be used if the Diagnostics
// have no errors. Load writes nothing.
func Load(path string, options Options) (*Config, Diagnostics) {
	if path == "" {
		path = DefaultPath()
	}
	if options.LookupEnv == nil {
		options.LookupEnv = os.LookupEnv
	}
	if options.Hostname == nil {
		options.Hostname = os.Hostname
	}
	config := &Config{Path: path}
	files, folder, err := findFiles(path)
	if err != nil {
		return config, Diagnostics{wholeFile(path).Error(openError(err), "name a file or a folder with --config PATH")}
	}
	d := newDecoder(options, folder)
	var parsed []parsedFile
	for _, name := range files {
		config.Files = append(config.Files, name)
		if f, ok := d.parse(name, name == path); ok {
			parsed = append(parsed, f)
		}
	}
	fromParser := len(d.found)
	d.config(config, parsed)
	d.dropGuesses(fromParser, parsed)
	return config, d.diagnostics()
}

// findFiles lists the files of a configuration and the absolute folder that
// relative paths in it start at.
func findFiles(path string) (files []string, folder string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, "", err
	}
	if folder, err = filepath.Abs(path); err != nil {
		return nil, "", err
	}
	if !info.IsDir() {
		return []string{path}, filepath.Dir(folder), nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, "", err
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".hcl") && !entry.IsDir() {
			files = append(files, filepath.Join(path, entry.Name()))
		}
	}
	if len(files) == 0 {
		return nil, "", errors.New("no file named *.hcl in this folder")
	}
	return files, folder, nil
}

// wholeFile is the place of what concerns a file as a whole.
func wholeFile(name string) Place {
	return Place{at: hcl.Range{Filename: name, Start: hcl.InitialPos, End: hcl.InitialPos}}
}

// openError leaves out the path, which the place names already.
func openError(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Sprintf("can't %s the configuration: %v", e.Op, e.Err)
	}
	return err.Error()
}

func newDecoder(options Options, folder string) *decoder {
	c := &calls{options: options, folder: folder}
	return &decoder{
		options: options,
		folder:  folder,
		calls:   c,
		context: &hcl.EvalContext{Functions: c.functions()},
	}
}

// diagnostics returns what was found in the order of files and lines.
func (d *decoder) diagnostics() Diagnostics {
	slices.SortStableFunc(d.found, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.place.at.Start.Byte, b.place.at.Start.Byte),
			cmp.Compare(a.Message, b.Message))
	})
	all := make(Diagnostics, len(d.found))
	for i, f := range d.found {
		all[i] = f.Diagnostic
	}
	if d.more {
		last := d.found[len(d.found)-1].place
		all = append(all, last.Error(fmt.Sprintf("there are more errors than these %d", maxFindings), "mend these first"))
	}
	return all
}
