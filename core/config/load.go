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
	"github.com/hashicorp/hcl/v2/hclsyntax"
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

// parsedFile is a file as far as it could be parsed.
type parsedFile struct {
	source *source
	body   *hclsyntax.Body
	broken int // offset of the first error of syntax; -1: none
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

// parse reads a file and parses as much of it as it can.
func (d *decoder) parse(name string, pipes bool) (parsedFile, bool) {
	text, err := readBounded(name, maxFile, pipes)
	if err != nil {
		d.partial = true
		d.errorAt(wholeFile(name), "", "%s", openError(err))
		return parsedFile{}, false
	}
	src := &source{name: name, text: text}
	if place, problem := checkLimits(src); problem != "" {
		d.partial = true
		d.errorAt(place, "", "%s", problem)
		return parsedFile{}, false
	}
	file, diags := hclsyntax.ParseConfig(text, name, hcl.InitialPos)
	src.hidden = hiddenSpans(text, diags.HasErrors())
	f := parsedFile{source: src, broken: -1}
	d.fromHCL(diags, src)
	for _, diag := range diags {
		if diag.Severity == hcl.DiagError && diag.Subject != nil && (f.broken < 0 || diag.Subject.Start.Byte < f.broken) {
			f.broken = diag.Subject.Start.Byte
			d.partial = true
		}
	}
	if file == nil {
		return f, false
	}
	body, ok := file.Body.(*hclsyntax.Body)
	f.body = body
	return f, ok && d.checkExpressions(f)
}

// checkExpressions refuses for expressions: with the functions there are, they
// have no use but to make a small file take forever.
func (d *decoder) checkExpressions(f parsedFile) bool {
	ok := true
	_ = hclsyntax.VisitAll(f.body, func(node hclsyntax.Node) hcl.Diagnostics {
		if loop, is := node.(*hclsyntax.ForExpr); is {
			d.errorAt(Place{f.source, loop.Range()}, "write the elements out", "for expressions are not part of the configuration language")
			ok = false
		}
		return nil
	})
	d.partial = d.partial || !ok
	return ok
}

// dropGuesses forgets what was found, in a file that can't be parsed to its
// end, behind its first error of syntax: there the parser has guessed. What the
// parser itself said, the first findings, stays.
func (d *decoder) dropGuesses(fromParser int, parsed []parsedFile) {
	broken := map[string]int{}
	for _, f := range parsed {
		if f.broken >= 0 {
			broken[f.source.name] = f.broken
		}
	}
	kept := d.found[:fromParser]
	for _, f := range d.found[fromParser:] {
		if offset, is := broken[f.File]; !is || f.place.at.Start.Byte < offset {
			kept = append(kept, f)
		}
	}
	d.found = kept
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
	return all
}
