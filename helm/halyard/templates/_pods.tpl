{{/* Parts of pods. */}}

{{- define "halyard.container" -}}
image: {{ include "halyard.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end }}

{{- define "halyard.databaseMounts" -}}
- name: database
  mountPath: /etc/halyard/database
  readOnly: true
{{- if .Values.database.ca.existingSecret }}
- name: database-ca
  mountPath: /etc/halyard/database-ca
  readOnly: true
{{- end }}
{{- end }}

{{/* A volume with entries of Secrets as files: (dict "name" … "entries" (list (dict "secret" … "key" … "path" …))). Only the user of
the pod and its group may read them; what the volume holds follows the Secrets. */}}
{{- define "halyard.volume" -}}
- name: {{ .name }}
  projected:
    defaultMode: 0440
    sources:
      {{- range .entries }}
      - secret:
          name: {{ .secret }}
          items:
            - key: {{ .key }}
              path: {{ .path }}
      {{- end }}
{{- end }}

{{- define "halyard.tlsVolumes" -}}
{{- $tls := .Values.tls }}
{{- if $tls.enabled }}
{{ include "halyard.volume" (dict "name" "tls" "entries" (list
  (dict "secret" $tls.existingSecret "key" $tls.certificateKey "path" "tls.crt")
  (dict "secret" $tls.existingSecret "key" $tls.keyKey "path" "tls.key"))) }}
{{- if $tls.clientCertificates }}
{{ include "halyard.volume" (dict "name" "client-ca" "entries" (list
  (dict "secret" (default $tls.existingSecret $tls.clientCa.existingSecret) "key" $tls.clientCa.key "path" "ca.crt"))) }}
{{- end }}
{{- if include "halyard.asksItself" . }}
{{ include "halyard.volume" (dict "name" "server-ca" "entries" (list
  (dict "secret" $tls.existingSecret "key" $tls.caKey "path" "ca.crt"))) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Whether probes are the program's own: nothing that Kubernetes can do is let in. */}}
{{- define "halyard.asksItself" -}}
{{- if and (not .Values.metrics.enabled) (eq .Values.tls.clientCertificates "required") }}true{{ end }}
{{- end }}

{{/* How Kubernetes asks: (dict "root" $ "service" the gRPC health service "path" the HTTP one's).

By HTTP on the port of metrics, where a probe is answered when the connections of everything else are used up. Without that port: gRPC
probes, which speak no TLS; HTTPS probes, which show no certificate; and where one is required, the program asks itself. */}}
{{- define "halyard.probe" -}}
{{- $tls := .root.Values.tls }}
{{- if .root.Values.metrics.enabled -}}
httpGet:
  port: metrics
  path: {{ .path }}
{{- else if not $tls.enabled -}}
grpc:
  port: 50051
  {{- with .service }}
  service: {{ . }}
  {{- end }}
{{- else if ne $tls.clientCertificates "required" -}}
httpGet:
  scheme: HTTPS
  port: grpc
  path: {{ .path }}
{{- else -}}
exec:
  command:
    - halyard
    - health
    {{- with .service }}
    - --service={{ . }}
    {{- end }}
    - --endpoint=https://{{ $tls.probeName }}:50051
    - --server-ca-file=/etc/halyard/server-ca/ca.crt
    - --own-certificate-file=/etc/halyard/tls/tls.crt
    - --own-key-file=/etc/halyard/tls/tls.key
{{- end }}
{{- end }}
