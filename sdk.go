// Package barnabas carries the source of what plugins are written with, so that
// an installed binary starts plugin projects without a checkout or a network.
package barnabas

import (
	"embed"
	"io/fs"
)

//go:embed go.mod go.sum LICENSE core/record core/wire plugins/sdk
//go:embed plugins/python/requirements.txt plugins/python/barnabas_plugin/*.py* plugins/python/barnabas_plugin/py.typed
var source embed.FS

// PluginSource returns the tree's files that plugin projects copy, by their path
// in the tree, tests included: go.mod and go.sum with the versions and checksums
// of this build, the protocol, and the SDKs for Go and Python. It is read-only and safe for
// concurrent use.
func PluginSource() fs.FS { return source }
