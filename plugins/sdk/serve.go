package sdk

import (
	"fmt"
	"os"
)

// ServeInterceptor is the main of an interceptor: new makes a plugin whose
// fields hold the defaults. It returns only by ending the process.
func ServeInterceptor(name, version string, new func() Interceptor) { serve(name, version) }

// ServeSerializer is the main of a serializer.
func ServeSerializer(name, version string, new func() Serializer) { serve(name, version) }

// ServePartitioner is the main of a partitioner.
func ServePartitioner(name, version string, new func() Partitioner) { serve(name, version) }

func serve(name, version string) {
	fmt.Fprintf(os.Stderr, "%s %s: serving is not available yet\n", name, version)
	os.Exit(1)
}
