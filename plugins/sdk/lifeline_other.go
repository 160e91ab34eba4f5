//go:build !unix

package sdk

// closeOnExec has nothing to do where descriptors are not inherited.
func closeOnExec(uintptr) {}
