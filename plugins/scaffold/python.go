package scaffold

import (
	"io/fs"
	"path"
)

// pythonFolder is the Python SDK in the tree; its package stands beside the
// plugin in a project, where Python finds it.
const pythonFolder = "plugins/python"

// pythonSDK returns the package as projects have it, with the versions of what it needs.
func pythonSDK(source fs.FS) ([]file, error) {
	all := []file{}
	add := func(from, to string, copied bool) error {
		content, err := fs.ReadFile(source, from)
		all = append(all, file{name: to, content: content, copied: copied})
		return err
	}
	if err := add(path.Join(pythonFolder, "requirements.txt"), "requirements.txt", false); err != nil {
		return nil, err
	}
	const module = "barnabas_plugin"
	if err := add("LICENSE", path.Join(module, "LICENSE"), true); err != nil {
		return nil, err
	}
	names, err := fs.Glob(source, path.Join(pythonFolder, module, "*.*"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := add(name, path.Join(module, path.Base(name)), true); err != nil {
			return nil, err
		}
	}
	return all, nil
}
