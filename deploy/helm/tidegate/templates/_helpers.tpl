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

{{/* A half's lanes: to each of the other's pods, with a secret of its own.
(list $ "inner" 2 withAddress) gives {"inner-0": {…}, …}. */}}
{{- define "tidegate.lanes" -}}
{{- $root := index . 0 }}
{{- $service := printf "%s-%s" (include "tidegate.fullname" $root) (index . 1) }}
{{- $lanes := dict }}
{{- range $n := until (int (index . 2)) }}
{{- $lane := dict "secret_file" (printf "/etc/tidegate/link/%s-%d" (index $ 1) $n) }}
{{- if index $ 3 }}
{{- $_ := set $lane "address" (printf "%s-%d.%s:%d" $service $n $service (int $root.Values.link.port)) }}
{{- end }}
{{- $_ := set $lanes (printf "%s-%d" (index $ 1) $n) $lane }}
{{- end }}
{{- toJson $lanes }}
{{- end }}

{{/* The secrets of a pod's own lanes and no others: (list "outer-$(POD_INDEX).inner-%d" "inner" 2). */}}
{{- define "tidegate.secrets" -}}
{{- range $n := until (int (index . 2)) }}
- name: link
  mountPath: /etc/tidegate/link/{{ index $ 1 }}-{{ $n }}
  subPathExpr: {{ printf (index $ 0) $n }}
  readOnly: true
{{- end }}
{{- end }}

{{/* Which replica this pod is. */}}
{{- define "tidegate.index" -}}
- name: POD_INDEX
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['apps.kubernetes.io/pod-index']
{{- end }}
