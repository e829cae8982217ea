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
{{- if eq $tls.clientCertificates "required" }}
{{ include "halyard.volume" (dict "name" "server-ca" "entries" (list
  (dict "secret" $tls.existingSecret "key" $tls.caKey "path" "ca.crt"))) }}
{{- end }}
{{- end }}
{{- end }}

{{/* How Kubernetes asks: (dict "root" $ "service" the gRPC health service "path" the HTTP one's).

Its gRPC probes speak no TLS, and its HTTPS probes show no certificate; where one is required, the program asks itself. */}}
{{- define "halyard.probe" -}}
{{- $tls := .root.Values.tls }}
{{- if not $tls.enabled -}}
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
