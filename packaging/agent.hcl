# /etc/barnabas/agent.hcl: what an installed agent begins with. It starts as it is,
# and waits for a broker. Check changes with: barnabas validate

agent {
  data_dir   = "/var/lib/barnabas"
  plugin_dir = "/usr/lib/barnabas/plugins"
}

producer {
  bootstrap_servers = ["localhost:9092"]
  # sasl {
  #   mechanism = "SCRAM-SHA-512"
  #   username  = "barnabas"
  #   password  = credential("kafka")     # see barnabas.service.d/credentials.conf
  # }
}

pipeline "logs" {
  topic = "logs"
  source "file" {
    include = ["/var/log/*.log"]
  }
  value_serializer "json" {}
}

# pipeline "syslog" {
#   topic = "syslog"
#   source "socket" {
#     listen  = "systemd://syslog"        # see barnabas.socket
#     framing = "syslog"
#   }
#   interceptor "parse" { config = { format = "syslog" } }
#   value_serializer "json" {}
# }
