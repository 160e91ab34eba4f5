package barnabas_test

import (
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestNothingInTheCatalogueIsUnproven checks that every failure of docs/failures.md
// names tests that exist in the package that it names, or a limit.
func TestNothingInTheCatalogueIsUnproven(t *testing.T) {
	tests := testsByPackage(t)
	content, err := os.ReadFile("docs/failures.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| ([FCS]\d\d) \| .* \| ([^|]*) \|$`)
	var ids []string
	for _, match := range row.FindAllStringSubmatch(string(content), -1) {
		id, proof := match[1], match[2]
		ids = append(ids, id)
		named := namedTests(proof)
		if len(named) == 0 && !strings.Contains(proof, "limit: ") {
			t.Errorf("%s names neither a test nor a limit", id)
		}
		for _, name := range named {
			if !tests[name] {
				t.Errorf("%s names %s, which is no test", id, name)
			}
		}
	}
	var want []string
	for n := range 48 {
		want = append(want, fmt.Sprintf("F%02d", n+1))
	}
	for n := range 16 {
		want = append(want, fmt.Sprintf("C%02d", n+1))
	}
	for n := range 20 {
		want = append(want, fmt.Sprintf("S%02d", n+1))
	}
	if !slices.Equal(ids, want) {
		t.Errorf("the rows are %v", ids)
	}
}

// namedTests returns "package TestName" for each name, which belongs to the last
// package before it.
func namedTests(proof string) []string {
	var named []string
	pkg := ""
	for _, word := range regexp.MustCompile("`[a-z/]+`|Test[A-Za-z0-9_]+").FindAllString(proof, -1) {
		if strings.HasPrefix(word, "`") {
			pkg = strings.Trim(word, "`")
		} else {
			named = append(named, pkg+" "+word)
		}
	}
	return named
}

// testsByPackage returns "package TestName" for each test of the tree.
func testsByPackage(t *testing.T) map[string]bool {
	t.Helper()
	tests := make(map[string]bool)
	for _, s := range sources(t) {
		if !s.isTest() {
			continue
		}
		for _, declaration := range s.syntax.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				tests[filepath.ToSlash(filepath.Dir(s.path))+" "+f.Name.Name] = true
			}
		}
	}
	return tests
}
