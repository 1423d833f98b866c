{{- /* The name of the release's objects. Names of pods and Services add to it, so it is kept short. */ -}}
{{- define "arbiter.name" -}}
{{- .Values.fullnameOverride | default .Release.Name | replace "." "-" | trunc 45 | trimSuffix "-" -}}
{{- end -}}

{{- /* The name of what is the cluster's and not a namespace's: another namespace may have a release of the same name. */ -}}
{{- define "arbiter.clusterName" -}}
{{- $name := printf "%s-%s" .Release.Namespace (include "arbiter.name" .) -}}
{{- if gt (len $name) 55 -}}
{{- $name = printf "%s-%s" ($name | trunc 46 | trimSuffix "-") (sha256sum $name | trunc 8) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- /* The account that the operator's pods run as. */ -}}
{{- define "arbiter.account" -}}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.create is false: give the account that is to be used in serviceAccount.name" -}}
{{- end -}}
{{- .Values.serviceAccount.name | default (include "arbiter.name" .) -}}
{{- end -}}

{{- /* What chooses the operator's pods. It never changes: a Deployment's selector is immutable. */ -}}
{{- define "arbiter.selector" -}}
app.kubernetes.io/name: arbiter
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- /* What all objects of the release carry. */ -}}
{{- define "arbiter.labels" -}}
{{ include "arbiter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: arbiter
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}
