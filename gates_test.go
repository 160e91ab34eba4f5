package barnabas_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Limits of hand-written code; tests may be longer.
const (
	maxFunctionLines    = 80
	maxFileLines        = 500
	maxInterfaceMethods = 4
)

// source is one hand-written Go file.
type source struct {
	path   string
	syntax *ast.File
	files  *token.FileSet
}

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

func (s source) line(p token.Pos) int { return s.files.Position(p).Line }

// sources parses every hand-written Go file of the tree.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	files := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "dist"):
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(name) != ".go":
			return nil
		}
		syntax, err := parser.ParseFile(files, path, nil, parser.ParseComments)
		if err == nil && !ast.IsGenerated(syntax) {
			all = append(all, source{path: path, syntax: syntax, files: files})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestFilesAndFunctionsAreShort(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest() {
			continue
		}
		if lines := s.line(s.syntax.FileEnd); lines > maxFileLines {
			t.Errorf("%s has %d lines, the most is %d", s.path, lines, maxFileLines)
		}
		for _, declaration := range s.syntax.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if lines := s.line(function.End()) - s.line(function.Pos()) + 1; lines > maxFunctionLines {
				t.Errorf("%s:%d: %s has %d lines, the most is %d", s.path, s.line(function.Pos()), function.Name.Name, lines, maxFunctionLines)
			}
		}
	}
}

func TestInterfacesAreSmall(t *testing.T) {
	for _, s := range sources(t) {
		ast.Inspect(s.syntax, func(node ast.Node) bool {
			if i, ok := node.(*ast.InterfaceType); ok && i.Methods.NumFields() > maxInterfaceMethods {
				t.Errorf("%s:%d: an interface has %d methods, the most is %d", s.path, s.line(i.Pos()), i.Methods.NumFields(), maxInterfaceMethods)
			}
			return true
		})
	}
}

func TestNothingRunsBeforeMain(t *testing.T) {
	for _, s := range sources(t) {
		for _, declaration := range s.syntax.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s:%d: init(): wire it in the composition root", s.path, s.line(f.Pos()))
			}
		}
	}
}

func TestPackageNamesSaySomething(t *testing.T) {
	empty := []string{"util", "utils", "common", "helper", "helpers", "types", "models", "shared", "misc"}
	for _, s := range sources(t) {
		folder := filepath.Base(filepath.Dir(s.path))
		if slices.Contains(empty, s.syntax.Name.Name) || slices.Contains(empty, folder) {
			t.Errorf("%s: package %s in %s: name what it holds", s.path, s.syntax.Name.Name, folder)
		}
	}
}

func TestTestsDoNotSleep(t *testing.T) {
	for _, s := range sources(t) {
		if !s.isTest() {
			continue
		}
		ast.Inspect(s.syntax, func(node ast.Node) bool {
			if isSelector(node, "time", "Sleep") {
				t.Errorf("%s:%d: time.Sleep: wait for the thing itself", s.path, s.line(node.Pos()))
			}
			return true
		})
	}
}

// Outside main, a package-level variable is set where it is declared and never
// again: state is passed in.
func TestPackagesHoldNoState(t *testing.T) {
	byPackage := map[string][]source{}
	for _, s := range sources(t) {
		if !s.isTest() && s.syntax.Name.Name != "main" {
			folder := filepath.Dir(s.path)
			byPackage[folder] = append(byPackage[folder], s)
		}
	}
	for _, files := range byPackage {
		variables := map[string]bool{}
		for _, s := range files {
			for _, name := range packageVariables(s.syntax) {
				variables[name.Name] = true
				if spec := name.Obj; spec != nil && startsEmpty(spec.Decl) {
					t.Errorf("%s:%d: variable %s begins empty, so something fills it: pass it in", s.path, s.line(name.Pos()), name.Name)
				}
			}
		}
		for _, s := range files {
			for _, name := range assigned(s.syntax) {
				if variables[name.Name] && resolvesToPackage(s.syntax, name) {
					t.Errorf("%s:%d: the package-level variable %s is changed: pass it in", s.path, s.line(name.Pos()), name.Name)
				}
			}
		}
	}
}

// packageVariables are the named variables that a file declares at its top
// level, without those that an embed directive fills.
func packageVariables(file *ast.File) []*ast.Ident {
	var names []*ast.Ident
	for _, declaration := range file.Decls {
		general, ok := declaration.(*ast.GenDecl)
		if !ok || general.Tok != token.VAR || strings.Contains(directives(general.Doc), "go:embed") {
			continue
		}
		for _, spec := range general.Specs {
			for _, name := range spec.(*ast.ValueSpec).Names {
				if name.Name != "_" {
					names = append(names, name)
				}
			}
		}
	}
	return names
}

// directives is a comment with the lines that CommentGroup.Text leaves out.
func directives(group *ast.CommentGroup) string {
	if group == nil {
		return ""
	}
	var text strings.Builder
	for _, comment := range group.List {
		text.WriteString(comment.Text)
	}
	return text.String()
}

func startsEmpty(declaration any) bool {
	spec, ok := declaration.(*ast.ValueSpec)
	return ok && len(spec.Values) == 0
}

// assigned are the identifiers that a file's statements change.
func assigned(file *ast.File) []*ast.Ident {
	var names []*ast.Ident
	add := func(e ast.Expr) {
		for {
			switch target := e.(type) {
			case *ast.IndexExpr:
				e = target.X
			case *ast.SelectorExpr:
				e = target.X
			case *ast.Ident:
				names = append(names, target)
				return
			default:
				return
			}
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch statement := node.(type) {
		case *ast.AssignStmt:
			if statement.Tok != token.DEFINE {
				for _, target := range statement.Lhs {
					add(target)
				}
			}
		case *ast.IncDecStmt:
			add(statement.X)
		}
		return true
	})
	return names
}

// resolvesToPackage reports that a name is not a local variable's: the parser
// knows what the names of a file's own declarations stand for, and leaves those
// of the package's other files open.
func resolvesToPackage(file *ast.File, name *ast.Ident) bool {
	return name.Obj == nil || slices.ContainsFunc(packageVariables(file), func(variable *ast.Ident) bool {
		return variable.Obj == name.Obj
	})
}

func isSelector(node ast.Node, of, name string) bool {
	selector, ok := node.(*ast.SelectorExpr)
	if !ok || selector.Sel.Name != name {
		return false
	}
	x, ok := selector.X.(*ast.Ident)
	return ok && x.Name == of
}

func TestCommentsPromiseNothing(t *testing.T) {
	unfinished := regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	for _, s := range sources(t) {
		for _, group := range s.syntax.Comments {
			if word := unfinished.FindString(group.Text()); word != "" {
				t.Errorf("%s:%d: a comment says %s", s.path, s.line(group.Pos()), word)
			}
		}
	}
}
