package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// maxFunctionFile bounds what file() and credential() read.
const maxFunctionFile = 1 << 20

// credentialMark marks a value made from a credential.
type credentialMark struct{}

// calls is what the configuration's functions work on.
type calls struct {
	options Options
	folder  string // absolute; file() starts here

	// placeholders are the credentials that were asked for without a directory
	// of credentials; the decoder empties it before each evaluation.
	placeholders []string
}

// functions are the functions of the configuration's language.
func (c *calls) functions() map[string]function.Function {
	return map[string]function.Function{
		"env":        textFunction("name", "default", c.env),
		"file":       textFunction("path", "", c.file),
		"credential": textFunction("name", "", c.credential),
		"hostname":   textFunction("", "", c.hostname),
	}
}

// textFunction makes a function of one string, or none, and perhaps one more.
func textFunction(parameter, optional string, call func(args []string) (cty.Value, error)) function.Function {
	spec := &function.Spec{Type: function.StaticReturnType(cty.String)}
	if parameter != "" {
		spec.Params = []function.Parameter{{Name: parameter, Type: cty.String}}
	}
	most := len(spec.Params)
	if optional != "" {
		most++
		spec.VarParam = &function.Parameter{Name: optional, Type: cty.String}
	}
	spec.Impl = func(values []cty.Value, _ cty.Type) (cty.Value, error) {
		if len(values) > most {
			return cty.NilVal, hinted{fmt.Sprintf("too many arguments: at most %d", most), ""}
		}
		args := make([]string, len(values))
		for i, v := range values {
			args[i] = v.AsString()
		}
		return call(args)
	}
	return function.New(spec)
}

// env is a variable of the agent's environment, or the default where it is not
// set.
func (c *calls) env(args []string) (cty.Value, error) {
	if v, ok := c.options.LookupEnv(args[0]); ok {
		return cty.StringVal(v), nil
	}
	if len(args) > 1 {
		return cty.StringVal(args[1]), nil
	}
	return cty.NilVal, hinted{fmt.Sprintf("environment variable %s is not set", quote(args[0])),
		fmt.Sprintf("set it, or give a default: env(%q, \"…\")", args[0])}
}

// file is a file's content without a line end at its end.
func (c *calls) file(args []string) (cty.Value, error) {
	name := args[0]
	if !filepath.IsAbs(name) {
		name = filepath.Join(c.folder, name)
	}
	content, err := readSmallFile(name)
	if err != nil {
		return cty.NilVal, hinted{"file(): " + err.Error(), "relative paths start at the configuration's folder, " + c.folder}
	}
	return cty.StringVal(content), nil
}

// credential is a file of systemd's directory of credentials, without a line
// end at its end.
func (c *calls) credential(args []string) (cty.Value, error) {
	name := args[0]
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return cty.NilVal, hinted{fmt.Sprintf("%s can't be the name of a credential", quote(name)), "a name is one file name, without folder"}
	}
	folder, ok := c.options.LookupEnv("CREDENTIALS_DIRECTORY")
	if !ok || folder == "" {
		if c.options.AllowMissingCredentials {
			c.placeholders = append(c.placeholders, name)
			return cty.StringVal(redacted).Mark(credentialMark{}), nil
		}
		return cty.NilVal, hinted{fmt.Sprintf("credential %s can't be read: $CREDENTIALS_DIRECTORY is not set", quote(name)),
			"systemd sets it for a unit with LoadCredential=" + printable(name) + ":PATH; elsewhere set it to a folder that holds the file"}
	}
	content, err := readSmallFile(filepath.Join(folder, name))
	if err != nil {
		return cty.NilVal, hinted{"credential(): " + err.Error(), "give the unit LoadCredential=" + printable(name) + ":PATH"}
	}
	return cty.StringVal(content).Mark(credentialMark{}), nil
}

func (c *calls) hostname([]string) (cty.Value, error) {
	name, err := c.options.Hostname()
	if err != nil {
		return cty.NilVal, hinted{"hostname(): " + err.Error(), ""}
	}
	return cty.StringVal(name), nil
}

// readSmallFile reads a regular file that fits a string of the language.
func readSmallFile(name string) (string, error) {
	content, err := readBounded(name, maxFunctionFile, false)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(content) {
		return "", fmt.Errorf("read %s: not UTF-8 text", name)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r"), nil
}

// readBounded reads a file of at most limit bytes. Unless pipes are allowed it
// reads regular files only and never waits for a writer.
func readBounded(name string, limit int64, pipes bool) ([]byte, error) {
	flags := os.O_RDONLY
	if !pipes {
		flags |= syscall.O_NONBLOCK
	}
	f, err := os.OpenFile(name, flags, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !pipes && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", name)
	}
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		return nil, errors.New("read " + name + ": larger than " + FormatSize(limit))
	}
	return content, nil
}
