{{- /* An image's reference. Give the image as `image`, the tag that it has without one as `tag`, and the value as `at`. */ -}}
{{- define "arbiter.image" -}}
{{- $tag := .image.tag | default .tag -}}
{{- if not (or $tag .image.digest) -}}
{{- fail (printf "%s needs a tag or a digest" .at) -}}
{{- end -}}
{{- .image.repository -}}
{{- with $tag }}:{{ . }}{{ end -}}
{{- with .image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{- define "arbiter.ownImage" -}}
{{- include "arbiter.image" (dict "image" .Values.image "tag" .Chart.AppVersion "at" "image") -}}
{{- end -}}
