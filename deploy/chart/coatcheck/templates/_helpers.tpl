{{- define "coatcheck.name" -}}
{{- if contains "coatcheck" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-coatcheck" (.Release.Name | trunc 42 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "coatcheck.selector" -}}
app.kubernetes.io/name: coatcheck
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "coatcheck.labels" -}}
{{ include "coatcheck.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* The configuration file. A JSON string, number or boolean is one of TOML. */ -}}
{{- define "coatcheck.settings" -}}
store = {{ .Values.store | toJson }}
{{- if eq .Values.store "memory" }}
data-dir = "/data"
{{- end }}
{{- range $name, $value := .Values.settings }}
{{ $name }} = {{ toJson $value }}
{{- end }}
{{- range $name, $reference := .Values.secrets }}
{{ $name }} = "/etc/coatcheck/secrets/{{ $name }}"
{{- end }}
{{- end }}
