{{- define "internvid.name" -}}
{{- .Release.Name | trunc 36 | trimSuffix "-" -}}
{{- end }}

{{/* What a selector matches. (list $ component) */}}
{{- define "internvid.selector" -}}
app.kubernetes.io/name: internvid
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "internvid.labels" -}}
{{ include "internvid.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end }}

{{/* Pods that Dagster starts: runs and steps. */}}
{{- define "internvid.launched" -}}
app.kubernetes.io/part-of: {{ .Release.Name }}
internvid/role: run
{{- end }}

{{/* Pods of a training Job, as k8s/training labels them. */}}
{{- define "internvid.training" -}}
app.kubernetes.io/name: internvid
app.kubernetes.io/component: training
{{- end }}

{{/* An image by its digest where there is one. */}}
{{- define "internvid.image" -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag }}{{- end -}}
{{- end }}

{{- define "internvid.secret" -}}
{{- .Values.secret.existing | default (printf "%s-trial" (include "internvid.name" .)) -}}
{{- end }}

{{- define "internvid.postgresHost" -}}
{{- if .Values.inCluster.postgres.enabled -}}{{ include "internvid.name" . }}-postgres
{{- else -}}{{ required "postgres.host: the address of your PostgreSQL server, or set inCluster.postgres.enabled for a trial" .Values.postgres.host }}{{- end -}}
{{- end }}

{{- define "internvid.s3Endpoint" -}}
{{- if .Values.inCluster.s3.enabled -}}http://{{ include "internvid.name" . }}-s3:8333{{- else -}}{{ .Values.storage.s3.endpointUrl }}{{- end -}}
{{- end }}

{{- define "internvid.mediaRoot" -}}
{{- if .Values.storage.mediaRoot -}}{{ .Values.storage.mediaRoot }}
{{- else if .Values.inCluster.s3.enabled -}}s3://internvid/media
{{- else -}}{{ fail "storage.mediaRoot: an s3:// prefix for media, or set inCluster.s3.enabled for a trial" }}{{- end -}}
{{- end }}

{{- define "internvid.lakeData" -}}
{{- if .Values.storage.lakeData -}}{{ .Values.storage.lakeData }}
{{- else if .Values.inCluster.s3.enabled -}}s3://internvid/lake
{{- else -}}{{ fail "storage.lakeData: an s3:// prefix for the lake's tables, or set inCluster.s3.enabled for a trial" }}{{- end -}}
{{- end }}

{{- define "internvid.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "internvid.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Everything that may be written, and the settings. Steps and runs get the same by the run launcher. */}}
{{- define "internvid.volumes" -}}
- {name: tmp, emptyDir: {}}
- {name: home, emptyDir: {}}
- {name: dagster-home, emptyDir: {}}
- name: settings
  configMap: {name: {{ include "internvid.name" . }}-settings}
{{- end }}

{{- define "internvid.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: /var/lib/internvid}
- {name: dagster-home, mountPath: /var/lib/dagster}
- {name: settings, mountPath: /etc/internvid, readOnly: true}
{{- end }}

{{/* Only the long-running pods: runs and steps are told the instance by their arguments. */}}
{{- define "internvid.instanceVolume" -}}
- name: instance
  configMap: {name: {{ include "internvid.name" . }}-instance}
{{- end }}

{{- define "internvid.instanceMount" -}}
- {name: instance, mountPath: /var/lib/dagster/dagster.yaml, subPath: dagster.yaml, readOnly: true}
{{- end }}

{{/* The same keys for what reads AWS's names: Dagster's log store. Absent where pods have a role of their own. */}}
{{- define "internvid.awsEnv" -}}
{{- range $name, $key := dict "AWS_ACCESS_KEY_ID" "INTERNVID_S3__ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" "INTERNVID_S3__SECRET_ACCESS_KEY" }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {name: {{ include "internvid.secret" $ }}, key: {{ $key }}, optional: true}
{{- end }}
{{- end }}

{{- define "internvid.envFrom" -}}
- configMapRef: {name: {{ include "internvid.name" . }}-env}
- secretRef: {name: {{ include "internvid.secret" . }}}
{{- end }}

{{/* Restart when what is mounted or read at start changes. */}}
{{- define "internvid.checksums" -}}
checksum/env: {{ include (print $.Template.BasePath "/env.yaml") . | sha256sum }}
checksum/instance: {{ include (print $.Template.BasePath "/instance.yaml") . | sha256sum }}
checksum/settings: {{ include (print $.Template.BasePath "/settings.yaml") . | sha256sum }}
{{- end }}

{{- define "internvid.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "internvid.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* dagster-k8s' configuration of one class of steps; with SHALLOW it replaces what the run's pod has. (list $ name) */}}
{{- define "internvid.stepClass" -}}
{{- $ := index . 0 -}}
{{- $name := index . 1 -}}
{{- $class := index $.Values.steps.classes $name -}}
merge_behavior: SHALLOW
container_config:
  image: {{ include "internvid.image" (index $.Values.image ($class.image | default "code")) }}
  resources: {{- toYaml $class.resources | nindent 4 }}
pod_spec_config:
  serviceAccountName: {{ include "internvid.name" $ }}-{{ ternary "train" "step" (has $name $.Values.steps.launchers) }}
  nodeSelector: {{- toYaml ($class.nodeSelector | default dict) | nindent 4 }}
  tolerations: {{- toYaml ($class.tolerations | default list) | nindent 4 }}
  priorityClassName: {{ $class.priorityClassName | default "" | quote }}
job_metadata:
  labels: {{- if $class.queueName }} {kueue.x-k8s.io/queue-name: {{ $class.queueName }}}{{ else }} {}{{ end }}
{{- end }}
