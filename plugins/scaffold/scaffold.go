// Package scaffold makes the project of a new plugin: a folder that builds, is
// tested and conforms, with a copy of the SDK in it, so that it needs neither a
// checkout of the agent nor, where a language's dependencies are cached, a network.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

//go:embed all:templates
var templates embed.FS

// Project is a plugin's project to be made.
type Project struct {
	Kind     string // "interceptor", "serializer" or "partitioner"
	Name     string // as the agent's configuration will write it
	Language string // "go" or "python"
	Version  string // of the agent whose SDK is copied
	Source   fs.FS  // the agent's tree, or the part of it that projects copy
}

// maxName bounds a name in bytes: it becomes part of files' names.
const maxName = 48

// CheckName refuses a name that is not words of small letters and digits, the
// first beginning with a letter, with one '-' or '_' between them. It is so
// narrow because the name becomes a folder, a file, a Go module and a type.
func CheckName(name string) error {
	if len(name) > maxName || !regexp.MustCompile(`^[a-z][a-z0-9]*([_-][a-z0-9]+)*$`).MatchString(name) {
		return fmt.Errorf("%q can't be a plugin's name: up to %d small letters and digits, a letter first, single - or _ between words, as in %q",
			name, maxName, "mask-emails")
	}
	return nil
}

// Kinds are the kinds of plugins, in the order of a pipeline.
func Kinds() []string { return []string{"interceptor", "serializer", "partitioner"} }

// Languages are the languages that projects can be made in.
func Languages() []string { return []string{"go", "python"} }

// Create makes the project as a new folder of the plugin's name in the folder
// parent, and returns the names of the files that it wrote for its author, in
// order. What exists is never written to; what it has begun it removes when it
// fails.
func (p *Project) Create(parent string) (written []string, err error) {
	files, err := p.files()
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(parent)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := root.Mkdir(p.Name, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("%s exists already: choose another name, or move it away", path.Join(parent, p.Name))
		}
		return nil, err
	}
	for _, f := range files {
		if err := f.write(root, p.Name); err != nil {
			return nil, errors.Join(err, root.RemoveAll(p.Name))
		}
		if !f.copied {
			written = append(written, f.name)
		}
	}
	return written, nil
}

// file is one file of a project.
type file struct {
	name    string // slash-separated, below the project's folder
	content []byte
	copied  bool // part of the SDK
}

func (f *file) write(root *os.Root, folder string) error {
	name := path.Join(folder, f.name)
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	return root.WriteFile(name, f.content, 0o644)
}

// Check refuses what there is no project of.
func (p *Project) Check() error {
	if !slices.Contains(Kinds(), p.Kind) {
		return fmt.Errorf("%q is no kind of plugin: choose one of %s", p.Kind, strings.Join(Kinds(), ", "))
	}
	if !slices.Contains(Languages(), p.Language) {
		return fmt.Errorf("there are no projects in %q: choose one of %s", p.Language, strings.Join(Languages(), ", "))
	}
	return CheckName(p.Name)
}

// files returns all of the project's files, in the order of their names.
func (p *Project) files() ([]file, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	all, err := p.rendered()
	if err != nil {
		return nil, err
	}
	sdk, err := p.sdk()
	if err != nil {
		return nil, fmt.Errorf("the SDK that this build carries: %w", err)
	}
	all = append(all, sdk...)
	slices.SortFunc(all, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// sdk returns the files of the language's SDK, and what names its dependencies.
func (p *Project) sdk() ([]file, error) {
	if p.Language == "python" {
		return pythonSDK(p.Source)
	}
	sdk, err := goSDK(p.Source)
	if err != nil {
		return nil, err
	}
	module, err := sdk.projectModule(p.Binary())
	if err != nil {
		return nil, err
	}
	return append(sdk.files, file{name: "go.mod", content: module}, file{name: "go.sum", content: sdk.sums}), nil
}

// rendered returns the files that come from templates: those of the language
// and, over them, those of the kind.
func (p *Project) rendered() ([]file, error) {
	var all []file
	for _, folder := range []string{path.Join("templates", p.Language, p.Kind), path.Join("templates", p.Language)} {
		entries, err := fs.ReadDir(templates, folder)
		if err != nil {
			return nil, fmt.Errorf("there is no template of a %s in %s: %w", p.Kind, p.Language, err)
		}
		for _, entry := range entries {
			name, isTemplate := strings.CutSuffix(entry.Name(), ".tmpl")
			if entry.IsDir() || !isTemplate {
				continue
			}
			text, err := template.ParseFS(templates, path.Join(folder, entry.Name()))
			if err != nil {
				return nil, err
			}
			var content bytes.Buffer
			if err := text.Option("missingkey=error").Execute(&content, p); err != nil {
				return nil, err
			}
			// A file's name that begins with a dot would be left out of a package.
			all = append(all, file{name: strings.Replace(name, "dot.", ".", 1), content: content.Bytes()})
		}
	}
	return all, nil
}

// Binary is the name of the plugin's file in a plugin_dir.
func (p *Project) Binary() string { return "barnabas-" + p.Kind + "-" + p.Name }

// Built is the plugin's file as the project makes it, below the project's folder.
func (p *Project) Built() string { return path.Join("bin", p.Binary()) }

// Block is the type of the stage's block in the agent's configuration.
func (p *Project) Block() string {
	if p.Kind == "serializer" {
		return "value_serializer"
	}
	return p.Kind
}

// KindType is the kind as Go's names have it: Interceptor.
func (p *Project) KindType() string { return strings.ToUpper(p.Kind[:1]) + p.Kind[1:] }

// Type is the name of the plugin's type: MaskEmails for mask-emails.
func (p *Project) Type() string {
	var b strings.Builder
	for _, word := range strings.FieldsFunc(p.Name, func(r rune) bool { return r == '-' || r == '_' }) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}
