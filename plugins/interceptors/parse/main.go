package main

import "github.com/barnabas-agent/barnabas/plugins/sdk"

// version is the plugin's own, shown by "plugin describe".
const version = "1.0.0"

func main() { sdk.ServeInterceptor("parse", version, newParse) }
