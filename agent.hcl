# Barnabas reads files, runs every record through plugins, each its own process,
# and produces it to Kafka. This file works as it is:
#
#   bin/barnabas run --dev --config agent.hcl     with a broker of its own
#   bin/barnabas validate --config agent.hcl      checks everything, changes nothing
#
# Relative paths start at this file's folder. Sizes are "32MiB", "1MB" or a number
# of bytes, durations "250ms" or "1h30m". What is left out has the value shown in a
# comment. Functions: env("NAME", "default"), file("path"), credential("name"),
# hostname(). "${" begins a template: write "$${" where you mean the two characters.

agent {
  data_dir    = ".barnabas"       # positions and quarantine; installed: /var/lib/barnabas
  plugin_dir  = "bin/plugins"     # where `make build` puts them; installed: /usr/lib/barnabas/plugins
  http_listen = "127.0.0.1:9464"  # /metrics, /healthz, /readyz; "" turns it off

  # log_level        = "info"     # debug, info, warn, error
  # log_format       = "auto"     # text on a terminal, json otherwise
  # shutdown_timeout = "30s"      # what is not delivered by then is read again at the next start
}

# The connection to Kafka. `run --dev` puts its own broker in the place of these.
producer {
  bootstrap_servers = ["localhost:9092"]

  # acks               = "all"    # a record is delivered when all in-sync replicas have it
  # enable_idempotence = true     # no duplicates and no reordering by retries
  # buffer_memory      = "32MiB"  # bounds what is read and not yet delivered, over all pipelines
  # linger             = "5ms"    # how long a batch waits to fill
  # compression        = "none"   # none, gzip, snappy, lz4, zstd
  #
  # tls  { ca_file = "ca.pem" }
  # sasl {
  #   mechanism = "SCRAM-SHA-512"
  #   username  = "barnabas"
  #   password  = credential("kafka")   # a file in systemd's $CREDENTIALS_DIRECTORY
  # }
}

# source → interceptors, in this order → serializers → partitioner → topic.
# A stage that is left out costs nothing.
pipeline "logs" {
  topic = "logs"

  source "file" {
    include = ["logs/*.log"]

    # exclude       = ["**/*.tmp"]
    # start_at      = "beginning"  # or "end", for files that are there at the very first start
    # max_line      = "512KiB"     # a longer line becomes several records, or goes by
    # on_long_line  = "split"      # split, truncate, quarantine
    # format        = "lines"      # or "cri", "docker": what container runtimes write
    # encoding      = "utf-8"      # bytes pass unchanged; others are decoded: "utf-16", "windows-1252", …
    # compression   = "auto"       # gzip and zstd by content; or "none"
    # multiline { start_pattern = "^\\d{4}-" }   # lines that begin a record, or continue_pattern
    # poll_interval = "250ms"
  }

  # Empty lines end here.
  interceptor "filter" {
    config = { keep = "value != ''" }
  }

  # The first word of a line becomes the record's key. Expressions are CEL and see
  # value, key, headers, topic, partition, timestamp and source.
  interceptor "set" {
    config = { key = "value.split(' ')[0]" }

    # on_error = "quarantine"      # quarantine, drop, pass, block: a record that the plugin rejects
    # timeout  = "10s"             # per batch; past it the process is replaced and the batch repeated
    # env      = { TZ = "UTC" }    # the process sees this and nothing of the agent's environment
  }

  # {"message": …, "timestamp": …, "source": …, "file": …, "offset": …, "host": …}
  value_serializer "json" {}

  # The partition that the Java client would choose for the key.
  partitioner "murmur2" {}
}
