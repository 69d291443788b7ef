{{- define "tidegate.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "tidegate.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "tidegate.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "tidegate.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What a part is found by. Called with (list $ "inner"). */}}
{{- define "tidegate.selector" -}}
app.kubernetes.io/name: {{ include "tidegate.name" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Its zone, for policies of the cluster's own. */}}
{{- define "tidegate.zone" -}}
{{- get (dict "inner" "inner" "outer" "outer" "verify" "verifier" "broker" "owner" "witness" "owner") . }}
{{- end }}

{{- define "tidegate.labels" -}}
{{ include "tidegate.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
tidegate.zone: {{ include "tidegate.zone" (index . 1) }}
{{- end }}

{{- define "tidegate.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* Settings as environment, a section a variable in JSON: (list "inner" settings). The chart's own
win; the schema refuses them in values. */}}
{{- define "tidegate.settings" -}}
{{- range $section, $keys := . }}
TIDEGATE_{{ upper $section }}: {{ $keys | toJson | quote }}
{{- end }}
{{- end }}

{{- define "tidegate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "tidegate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
privileged: false
capabilities:
  drop: [ALL]
{{- end }}

{{/* What every pod has: (list $ "inner" values). */}}
{{- define "tidegate.pod" -}}
{{- $root := index . 0 }}
{{- $values := index . 2 }}
automountServiceAccountToken: false
enableServiceLinks: false
serviceAccountName: {{ include "tidegate.fullname" $root }}
{{- if $root.Values.userNamespaces }}
hostUsers: false
{{- end }}
securityContext:
  {{- include "tidegate.podSecurity" . | nindent 2 }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Apart from the other half, and as the user says: (list $ values "outer"). */}}
{{- define "tidegate.affinity" -}}
{{- $root := index . 0 }}
{{- $affinity := deepCopy (index . 1).affinity }}
{{- if $root.Values.separateNodes }}
{{- $other := dict "labelSelector" (dict "matchLabels" (fromYaml (include "tidegate.selector" (list $root (index . 2))))) "topologyKey" "kubernetes.io/hostname" }}
{{- $anti := $affinity.podAntiAffinity | default dict }}
{{- $required := append ($anti.requiredDuringSchedulingIgnoredDuringExecution | default list) $other }}
{{- $_ := set $anti "requiredDuringSchedulingIgnoredDuringExecution" $required }}
{{- $_ := set $affinity "podAntiAffinity" $anti }}
{{- end }}
{{- with $affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What every container has. */}}
{{- define "tidegate.container" -}}
image: {{ include "tidegate.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "tidegate.containerSecurity" . | nindent 2 }}
{{- end }}

{{/* Nothing is written but to volumes; libraries that want a home find /tmp. */}}
{{- define "tidegate.env" -}}
- name: HOME
  value: /tmp
{{- with . }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tidegate.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .className }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end }}

{{/* Names of inner halves as outer ones call them: each lane by its own name. */}}
{{- define "tidegate.lanes" -}}
{{- $name := printf "%s-inner" (include "tidegate.fullname" .) }}
{{- range $n := until (int .Values.inner.replicas) }}
{{ printf "%s-%d.%s:%d" $name $n $name (int $.Values.link.port) }}
{{- end }}
{{- end }}
