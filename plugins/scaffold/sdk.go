package scaffold

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// modulePath is the SDK's module.
const modulePath = "github.com/barnabas-agent/barnabas"

// sdkVersion stands for the copy in go.mod, whose replace directive overrides it.
const sdkVersion = "v0.0.0"

// sdkFolder is where the copy stands in a project.
const sdkFolder = "sdk"

// sdkPackages are the folders of the tree that the copy is made of.
func sdkPackages() []string { return []string{"core/record", "core/wire", "plugins/sdk"} }

// modules.txt lists the modules that the SDK's packages need, one a line, as
// `go list -deps` has them; their versions are those of the tree's go.mod.
//
//go:embed modules.txt
var moduleList embed.FS

// sdkCopy is the Go SDK as projects have it: a module of its own, with no more
// requirements than it needs.
type sdkCopy struct {
	language string           // version of Go
	requires []module.Version // without the SDK itself
	sums     []byte           // go.sum of a project
	files    []file
}

func goSDK(source fs.FS) (*sdkCopy, error) {
	s := &sdkCopy{}
	if err := s.readModule(source); err != nil {
		return nil, err
	}
	if err := s.readSums(source); err != nil {
		return nil, err
	}
	for _, folder := range sdkPackages() {
		if err := s.copyFolder(source, folder); err != nil {
			return nil, err
		}
	}
	license, err := fs.ReadFile(source, "LICENSE")
	if err != nil {
		return nil, err
	}
	own, err := s.module(modulePath, nil)
	if err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{"LICENSE": license, "go.mod": own, "go.sum": s.sums} {
		s.files = append(s.files, file{name: path.Join(sdkFolder, name), content: content, copied: true})
	}
	return s, nil
}

// readModule takes the versions of the listed modules from the tree's go.mod.
func (s *sdkCopy) readModule(source fs.FS) error {
	text, err := fs.ReadFile(source, "go.mod")
	if err != nil {
		return err
	}
	tree, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		return err
	}
	s.language = tree.Go.Version
	needed, err := neededModules()
	if err != nil {
		return err
	}
	for _, require := range tree.Require {
		if slices.Contains(needed, require.Mod.Path) {
			s.requires = append(s.requires, require.Mod)
		}
	}
	if len(s.requires) != len(needed) {
		return fmt.Errorf("go.mod requires %d of the %d modules that the SDK needs", len(s.requires), len(needed))
	}
	return nil
}

func neededModules() ([]string, error) {
	list, err := fs.ReadFile(moduleList, "modules.txt")
	return strings.Fields(string(list)), err
}

// readSums keeps the lines of the tree's go.sum that are of required versions.
func (s *sdkCopy) readSums(source fs.FS) error {
	text, err := fs.ReadFile(source, "go.sum")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		of := module.Version{Path: fields[0], Version: strings.TrimSuffix(fields[1], "/go.mod")}
		if slices.Contains(s.requires, of) {
			s.sums = append(s.sums, line...)
		}
	}
	return nil
}

// copyFolder takes a folder's code, without tests, generators and their data.
func (s *sdkCopy) copyFolder(source fs.FS, folder string) error {
	return fs.WalkDir(source, folder, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "testdata":
			return fs.SkipDir
		case entry.IsDir(), strings.HasSuffix(name, "_test.go"):
			return nil
		case !slices.Contains([]string{".go", ".proto"}, path.Ext(name)):
			return nil
		}
		content, err := fs.ReadFile(source, name)
		s.files = append(s.files, file{name: path.Join(sdkFolder, name), content: content, copied: true})
		return err
	})
}

// projectModule is the go.mod of a project.
func (s *sdkCopy) projectModule(name string) ([]byte, error) {
	return s.module(name, &module.Version{Path: modulePath, Version: sdkVersion})
}

// module writes a go.mod that requires what the SDK needs, and the copy of the
// SDK itself where it is given.
func (s *sdkCopy) module(name string, sdk *module.Version) ([]byte, error) {
	f := &modfile.File{Syntax: &modfile.FileSyntax{}}
	if err := f.AddModuleStmt(name); err != nil {
		return nil, err
	}
	if err := f.AddGoStmt(s.language); err != nil {
		return nil, err
	}
	var requires []*modfile.Require
	if sdk != nil {
		requires = append(requires, &modfile.Require{Mod: *sdk})
	}
	for _, m := range s.requires {
		requires = append(requires, &modfile.Require{Mod: m, Indirect: sdk != nil})
	}
	f.SetRequireSeparateIndirect(requires)
	if sdk != nil {
		if err := f.AddReplace(sdk.Path, "", "./"+sdkFolder, ""); err != nil {
			return nil, err
		}
	}
	f.Cleanup()
	return f.Format()
}
