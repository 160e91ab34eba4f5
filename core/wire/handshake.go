package wire

import "github.com/hashicorp/go-plugin"

// The cookie keeps a plugin from being run by hand by mistake. It is no secret.
const (
	CookieKey   = "BARNABAS_PLUGIN_COOKIE"
	CookieValue = "5f1d0b6a9c2e47d38a60b1f4e7c95d220e8b43a7f6d14c59b2307ea8c6f1d94b"
)

// ProtocolVersion is the newest version of the protocol that this package speaks.
const ProtocolVersion = 1

// PluginName is the one plugin of go-plugin's set that a process serves.
const PluginName = "barnabas"

// LifelineVariable names the file descriptor, in decimal, of a pipe whose other
// end the agent holds: at its end of file the agent is gone, and the plugin ends.
const LifelineVariable = "BARNABAS_LIFELINE_FD"

// AgentVariable holds the agent's process id: nobody else may connect to the plugin.
const AgentVariable = "BARNABAS_AGENT_PID"

// LogLevelVariable names the least level that the plugin logs: trace, debug, info, warn or error.
const LogLevelVariable = "BARNABAS_PLUGIN_LOG_LEVEL"

// Handshake returns what go-plugin compares at both ends. The protocol's
// version is negotiated through VersionedPlugins, so it is left out here.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{MagicCookieKey: CookieKey, MagicCookieValue: CookieValue}
}

// PoisonVariable, when set to 1, makes a plugin overwrite what it lent once a
// batch is answered, so that a test sees who keeps it.
const PoisonVariable = "BARNABAS_PLUGIN_POISON"
