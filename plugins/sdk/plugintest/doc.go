// Package plugintest tests Barnabas plugins the way the agent uses them: over
// the plugin protocol, with every reply checked as the agent checks it, and with
// the memory that a batch lends overwritten once the batch is answered, so that
// a plugin that keeps it is caught.
//
// [New] starts a plugin in the test's own process for tests of what it does:
//
//	h := plugintest.New(t, func() sdk.Interceptor { return &Upper{} }, `{"prefix": "> "}`)
//	got := h.Send(sdk.Fields{Value: []byte("one")})
//
// [Run] and [RunProcess] put a plugin through the cases that every plugin must
// pass, in the test's process or as a process of its own, in any language.
package plugintest
