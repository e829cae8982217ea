{{/* The program's options: as variables, and secrets as files. */}}

{{/* A number as people write it: what YAML reads may have become a float. */}}
{{- define "halyard.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* Options by name as variables; those that are empty are left to the program. */}}
{{- define "halyard.variables" -}}
{{- range $option, $value := . }}
{{- $text := include "halyard.text" $value }}
{{- if ne $text "" }}
- name: HALYARD_{{ $option | replace "-" "_" | upper }}
  value: {{ $text | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where the database is, for every container that opens it. */}}
{{- define "halyard.databaseOptions" -}}
{{- $database := .Values.database }}
{{- $options := dict "log-format" .Values.log.format "log" .Values.log.filter }}
{{- if $database.host }}
{{- $user := $database.user | urlquery | replace "+" "%20" }}
{{- $name := $database.name | urlquery | replace "+" "%20" }}
{{- $host := ternary (printf "[%s]" $database.host) $database.host (contains ":" $database.host) }}
{{- $parameters := list }}
{{- with $database.sslMode }}{{ $parameters = append $parameters (printf "sslmode=%s" .) }}{{ end }}
{{- if $database.ca.existingSecret }}{{ $parameters = append $parameters "sslrootcert=/etc/halyard/database-ca/ca.crt" }}{{ end }}
{{- if $database.ca.system }}{{ $parameters = append $parameters "sslrootcert=system" }}{{ end }}
{{- $url := printf "postgres://%s@%s:%d/%s" $user $host (int $database.port) $name }}
{{- if $parameters }}{{ $url = printf "%s?%s" $url (join "&" $parameters) }}{{ end }}
{{- $_ := set $options "database-url" $url }}
{{- else }}
{{- $_ := set $options "database-url-file" "/etc/halyard/database/url" }}
{{- end }}
{{- if $database.password.existingSecret }}
{{- $_ := set $options "database-password-file" "/etc/halyard/database/password" }}
{{- end }}
{{- toYaml $options }}
{{- end }}

{{/* What `halyard serve` is told beside where the database is. */}}
{{- define "halyard.serveOptions" -}}
{{- $v := .Values }}
{{- $options := dict
  "listen" (printf "%s:50051" $v.listenAddress)
  "migrate" (ternary "at-start" "never" (eq $v.migrations.mode "atStart"))
  "database-pool-size" $v.database.poolSize
  "signing-key-file" "/etc/halyard/signing/key"
  "sign-up" (ternary "true" "" $v.signUp)
  "oidc-issuer" $v.openId.issuer
  "oidc-audience" $v.openId.audience
  "oidc-roles-claim" $v.openId.rolesClaim
  "oidc-roles" $v.openId.roles
  "worker-threads" $v.workerThreads
  "max-connections" $v.limits.maxConnections
  "opening-timeout" $v.limits.openingTimeout
  "max-connection-streams" $v.limits.maxConnectionStreams
  "max-request-bytes" $v.limits.maxRequestBytes
  "max-header-bytes" $v.limits.maxHeaderBytes
  "request-timeout" $v.limits.requestTimeout
  "max-key-rate" $v.limits.maxKeyRate
  "max-requests" $v.limits.maxRequests
  "max-deadline" $v.limits.maxDeadline
  "cors-admin-origins" (join "," $v.cors.adminOrigins)
  "cors-evaluation-origins" (join "," $v.cors.evaluationOrigins)
  "heartbeat" $v.streams.heartbeat
  "stream-rotation" $v.streams.rotation
  "max-snapshot-bytes" $v.streams.maxSnapshotBytes
  "max-streams" $v.streams.max
  "max-key-streams" $v.streams.maxOfKey
  "history-retention" $v.history.retention
  "horizon-revisions" $v.history.horizonRevisions
  "horizon-age" $v.history.horizonAge
  "compaction-interval" $v.history.compactionInterval
  "event-window-days" $v.events.windowDays
  "event-retention-days" $v.events.retentionDays
  "drain-window" (printf "%ds" (int $v.shutdown.drainWindowSeconds))
  "shutdown-grace" (printf "%ds" (int $v.shutdown.graceSeconds))
  "otlp-endpoint" $v.tracing.otlpEndpoint
  "trace-sample-ratio" $v.tracing.sampleRatio }}
{{- if $v.previousSigningKeys.existingSecret }}
{{- $_ := set $options "previous-signing-key-file" "/etc/halyard/signing/previous" }}
{{- end }}
{{- if $v.metrics.enabled }}
{{- $_ := set $options "metrics-listen" (printf "%s:%d" $v.listenAddress (int $v.metrics.port)) }}
{{- end }}
{{- if $v.tls.enabled }}
{{- $_ := set $options "tls-certificate-file" "/etc/halyard/tls/tls.crt" }}
{{- $_ := set $options "tls-key-file" "/etc/halyard/tls/tls.key" }}
{{- if $v.tls.clientCertificates }}
{{- $_ := set $options "tls-client-certificates" $v.tls.clientCertificates }}
{{- $_ := set $options "tls-client-ca-file" "/etc/halyard/client-ca/ca.crt" }}
{{- end }}
{{- end }}
{{- toYaml (merge $options $v.tuning) }}
{{- end }}
