{{/* A duration in milliseconds. */}}
{{- define "halyard.milliseconds" -}}
{{- $units := dict "ns" 0.000001 "us" 0.001 "ms" 1.0 "s" 1000.0 "m" 60000.0 "h" 3600000.0 }}
{{- $sum := 0.0 }}
{{- range regexFindAll "[0-9]+(\\.[0-9]+)?[a-z]+" . -1 }}
{{- $unit := regexFind "[a-z]+$" . }}
{{- $sum = addf $sum (mulf (float64 (trimSuffix $unit .)) (index $units $unit)) }}
{{- end }}
{{- $sum }}
{{- end }}

{{/* What a schema cannot say: values that are too much or too little, or do not fit together. All of it is told at once. */}}
{{- define "halyard.refuse" -}}
{{- $v := .Values }}
{{- $wrong := list }}
{{- if and (not $v.database.host) (not $v.database.url.existingSecret) }}
{{- $wrong = append $wrong "database.url.existingSecret is missing: name the Secret with the URL of your PostgreSQL, or give database.host" }}
{{- end }}
{{- if and $v.database.host $v.database.url.existingSecret }}
{{- $wrong = append $wrong "database.host and database.url.existingSecret are both given; leave one out" }}
{{- end }}
{{- if and $v.database.host (not $v.database.password.existingSecret) }}
{{- $wrong = append $wrong "database.password.existingSecret is missing beside database.host: name the Secret with the password" }}
{{- end }}
{{- if and $v.database.sslMode (not $v.database.host) }}
{{- $wrong = append $wrong "database.sslMode is for database.host; write sslmode=… into the URL" }}
{{- end }}
{{- $ca := or $v.database.ca.existingSecret $v.database.ca.system }}
{{- if and (hasPrefix "verify-" $v.database.sslMode) (not $ca) }}
{{- $wrong = append $wrong (printf "database.sslMode %s needs database.ca.existingSecret or database.ca.system: whom to trust" $v.database.sslMode) }}
{{- end }}
{{- if and $v.database.host $ca (not (has $v.database.sslMode (list "require" "verify-ca" "verify-full"))) }}
{{- $wrong = append $wrong "database.ca means nothing without database.sslMode verify-full: nothing would be verified" }}
{{- end }}
{{- if and $v.database.ca.system (or $v.database.ca.existingSecret (ne $v.database.sslMode "verify-full")) }}
{{- $wrong = append $wrong "database.ca.system is for database.sslMode verify-full, and without database.ca.existingSecret" }}
{{- end }}
{{- if not $v.signingKey.existingSecret }}
{{- $wrong = append $wrong "signingKey.existingSecret is missing: name the Secret with what access tokens are signed with (openssl rand -base64 48)" }}
{{- end }}
{{- if ne (empty $v.firstAdministrator.email) (empty $v.firstAdministrator.password.existingSecret) }}
{{- $wrong = append $wrong "firstAdministrator.email and firstAdministrator.password.existingSecret belong together; give both or none" }}
{{- end }}
{{- if and $v.firstAdministrator.email (ne $v.migrations.mode "initContainer") }}
{{- $wrong = append $wrong "firstAdministrator needs migrations.mode initContainer: the account is made before the server starts, and making it would migrate" }}
{{- end }}
{{- if ne (empty $v.openId.issuer) (empty $v.openId.audience) }}
{{- $wrong = append $wrong "openId.issuer and openId.audience belong together; give both or none" }}
{{- end }}
{{- if and (or $v.openId.roles $v.openId.rolesClaim) (not $v.openId.issuer) }}
{{- $wrong = append $wrong "openId.roles and openId.rolesClaim mean nothing without openId.issuer" }}
{{- end }}
{{- if and $v.tls.enabled (not $v.tls.existingSecret) }}
{{- $wrong = append $wrong "tls.existingSecret is missing beside tls.enabled: name the Secret with certificate and key" }}
{{- end }}
{{- if and (not $v.tls.enabled) (or $v.tls.existingSecret $v.tls.clientCertificates $v.tls.clientCa.existingSecret) }}
{{- $wrong = append $wrong "tls.enabled is false although other values of tls are given: callers would be answered in plain text" }}
{{- end }}
{{- if and $v.tls.clientCa.existingSecret (not $v.tls.clientCertificates) }}
{{- $wrong = append $wrong "tls.clientCa is given, but tls.clientCertificates does not say whether certificates are optional or required" }}
{{- end }}
{{- $bounds := include "halyard.bounds" . | fromYamlArray }}
{{- $durations := dict }}
{{- range $bound := $bounds }}
{{- if kindIs "string" $bound.least }}
{{- $path := splitList "." $bound.value }}
{{- $given := index $v (first $path) (last $path) | default "" }}
{{- $_ := set $durations $bound.option (include "halyard.milliseconds" (default (default "" $bound.default) $given) | float64) }}
{{- if $given }}
{{- $milliseconds := include "halyard.milliseconds" $given | float64 }}
{{- if or (lt $milliseconds (include "halyard.milliseconds" $bound.least | float64)) (gt $milliseconds (include "halyard.milliseconds" $bound.most | float64)) }}
{{- $wrong = append $wrong (printf "%s must lie between %s and %s" $bound.value $bound.least $bound.most) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- range $pair := list
  (list "poll-interval" "scan-interval")
  (list "feed-query-timeout" "feed-load-timeout")
  (list "listener-reconnect-least" "listener-reconnect-most") }}
{{- if gt (index $durations (first $pair)) (index $durations (last $pair)) }}
{{- $wrong = append $wrong (printf "tuning.%s must not be longer than tuning.%s" (first $pair) (last $pair)) }}
{{- end }}
{{- end }}
{{- if ge (index $durations "probe-timeout") (index $durations "probe-interval") }}
{{- $wrong = append $wrong "tuning.probe-timeout must be shorter than tuning.probe-interval" }}
{{- end }}
{{- $heartbeat := index $durations "heartbeat" }}
{{- if and $v.streams.heartbeat (or (lt $heartbeat (index $durations "heartbeat-least")) (gt $heartbeat (index $durations "heartbeat-most"))) }}
{{- $wrong = append $wrong "streams.heartbeat must lie between tuning.heartbeat-least (by default 1s) and tuning.heartbeat-most (1m)" }}
{{- end }}
{{- if and $v.events.retentionDays (lt (int $v.events.retentionDays) (int (default 3 $v.events.windowDays))) }}
{{- $wrong = append $wrong "events.retentionDays must not be less than events.windowDays (by default 3)" }}
{{- end }}
{{- if and (has (toString $v.updateStrategy.maxSurge) (list "0" "0%")) (has (toString $v.updateStrategy.maxUnavailable) (list "0" "0%")) }}
{{- $wrong = append $wrong "updateStrategy.maxSurge and updateStrategy.maxUnavailable are both 0: no replica could ever be replaced" }}
{{- end }}
{{- with $v.podDisruptionBudget }}
{{- $replicas := ternary (int $v.autoscaling.minReplicas) (int $v.replicas) $v.autoscaling.enabled }}
{{- $least := toString .minAvailable }}
{{- $kept := 0 }}
{{- if hasSuffix "%" $least }}
{{- $kept = div (add (mul (int (trimSuffix "%" $least)) $replicas) 99) 100 }}
{{- else if $least }}
{{- $kept = int .minAvailable }}
{{- end }}
{{- if and .enabled $least (ge (int $kept) $replicas) }}
{{- $wrong = append $wrong (printf "podDisruptionBudget.minAvailable %s leaves none of %d replicas to be evicted: no node with one could be drained" $least $replicas) }}
{{- end }}
{{- if and .enabled (not $least) (has (toString .maxUnavailable) (list "" "0" "0%")) }}
{{- $wrong = append $wrong "podDisruptionBudget.maxUnavailable lets none be away: no node with a replica could be drained" }}
{{- end }}
{{- end }}
{{- if gt (int $v.shutdown.drainWindowSeconds) (int $v.shutdown.graceSeconds) }}
{{- $wrong = append $wrong "shutdown.drainWindowSeconds must not be more than shutdown.graceSeconds: it is part of it" }}
{{- end }}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) }}
{{- $wrong = append $wrong "autoscaling.minReplicas must not be more than autoscaling.maxReplicas" }}
{{- end }}
{{- if and $v.autoscaling.enabled (not (dig "requests" "cpu" "" $v.resources)) }}
{{- $wrong = append $wrong "autoscaling needs resources.requests.cpu, of which its target is a share" }}
{{- end }}
{{- if and (ne (toString $v.tracing.sampleRatio) "") (not $v.tracing.otlpEndpoint) }}
{{- $wrong = append $wrong "tracing.sampleRatio means nothing without tracing.otlpEndpoint" }}
{{- end }}
{{- range $option := list "serviceMonitor" "prometheusRule" "dashboard" }}
{{- if and (index $v.metrics $option "enabled") (not $v.metrics.enabled) }}
{{- $wrong = append $wrong (printf "metrics.%s.enabled means nothing without metrics.enabled" $option) }}
{{- end }}
{{- end }}
{{- if and $v.metrics.enabled (eq (int $v.metrics.port) 50051) }}
{{- $wrong = append $wrong "metrics.port must not be 50051, where everything else is served" }}
{{- end }}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) }}
{{- $wrong = append $wrong "ingress.hosts is empty: name the hosts that lead to Halyard" }}
{{- end }}
{{- if and $v.grpcRoute.enabled (not $v.grpcRoute.parentRefs) }}
{{- $wrong = append $wrong "grpcRoute.parentRefs is empty: name the gateways that it belongs to" }}
{{- end }}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) }}
{{- $wrong = append $wrong "httpRoute.parentRefs is empty: name the gateways that it belongs to" }}
{{- end }}
{{- if and $v.tests.flag (not $v.tests.key.existingSecret) }}
{{- $wrong = append $wrong "tests.key.existingSecret is missing beside tests.flag: name the Secret with an environment key" }}
{{- end }}
{{- if $wrong }}
{{- fail (printf "these values do not fit together:\n  %s" (join "\n  " $wrong)) }}
{{- end }}
{{- end }}
