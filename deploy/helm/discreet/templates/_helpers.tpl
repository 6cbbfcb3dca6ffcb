{{/* The release's name: what everything here is called. */}}
{{- define "discreet.name" -}}
{{- if contains "discreet" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-discreet" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "discreet.selector" -}}
app.kubernetes.io/name: discreet
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "discreet.labels" -}}
{{ include "discreet.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "discreet.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* The pod's security context: what the restricted standard asks for. */}}
{{- define "discreet.podSecurity" -}}
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* discreet as a container: all but what differs between the two modes. Takes `context` and
     `listen`. */}}
{{- define "discreet.container" -}}
{{- $ := .context -}}
name: discreet
image: {{ include "discreet.image" $ | quote }}
imagePullPolicy: {{ $.Values.image.pullPolicy }}
envFrom:
  - configMapRef: {name: {{ include "discreet.name" $ }}-settings}
env:
  - name: DISCREET_LISTEN
    value: {{ .listen | quote }}
  {{- with $.Values.secret }}
  - name: DISCREET_UPSTREAM_API_KEY
    valueFrom:
      secretKeyRef: {name: {{ . }}, key: upstream-api-key, optional: true}
  # The app beside a sidecar reaches its admin port too, and what the provider said is not for it.
  - name: DISCREET_ADMIN_TOKEN
    valueFrom:
      secretKeyRef: {name: {{ . }}, key: admin-token, optional: {{ eq $.Values.mode "gateway" }}}
  {{- end }}
# Not /readyz: with `ready_check` a provider that is down would restart it.
startupProbe:
  httpGet: {path: /startupz, port: admin}
  periodSeconds: 1
  failureThreshold: 30
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 5
  timeoutSeconds: 2
# Slow to judge: a restart cuts every stream.
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
  # A process that is stuck cannot drain.
  terminationGracePeriodSeconds: 10
{{- if $.Values.preStopSeconds }}
lifecycle:
  # In the gateway: until every node has heard that this pod takes no new connection. In a sidecar
  # it runs beside the app's own, and costs no time.
  preStop:
    sleep: {seconds: {{ $.Values.preStopSeconds }}}
{{- end }}
{{- if $.Values.resources }}
resources: {{- toYaml $.Values.resources | nindent 2 }}
{{- else if eq $.Values.mode "sidecar" }}
resources:
  requests: {cpu: 100m, memory: 128Mi}
  limits: {memory: 512Mi}
{{- else }}
resources:
  requests: {cpu: "1", memory: 256Mi}
  limits: {memory: 1Gi}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
volumeMounts:
  # The folder, not the file by subPath: only so a changed table arrives.
  - {name: discreet-table, mountPath: /etc/discreet, readOnly: true}
  - {name: discreet-tmp, mountPath: /tmp}
{{- end }}

{{/* An entry of initContainers for an app of your own. */}}
{{- define "discreet.sidecar" -}}
- {{ include "discreet.container" (dict "context" . "listen" "127.0.0.1:8080") | nindent 2 | trim }}
  restartPolicy: Always
  ports:
    - {name: admin, containerPort: 8081}
{{- end }}

{{/* What goes with it into volumes. */}}
{{- define "discreet.volumes" -}}
- name: discreet-table
  configMap: {name: {{ include "discreet.name" . }}-table}
- name: discreet-tmp
  emptyDir: {medium: Memory, sizeLimit: 16Mi}
{{- end }}

{{- define "discreet.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* Egress to name servers and to the upstream. */}}
{{- define "discreet.egress" -}}
- to:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: kube-system}
      podSelector:
        matchLabels: {k8s-app: kube-dns}
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
- to:
    {{- range .Values.networkPolicy.upstreamCidrs }}
    - ipBlock:
        cidr: {{ . | quote }}
        {{- if hasSuffix "/0" . }}
        {{- $except := list }}
        {{- $six := contains ":" . }}
        {{- range $.Values.networkPolicy.upstreamCidrsExcept }}
        {{- if eq $six (contains ":" .) }}{{ $except = append $except . }}{{ end }}
        {{- end }}
        {{- with $except }}
        except: {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- end }}
    {{- end }}
  ports:
    - {protocol: TCP, port: {{ .Values.networkPolicy.upstreamPort }}}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Ingress to the admin port, from the monitoring. */}}
{{- define "discreet.monitoring" -}}
- from:
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: {{ .Values.networkPolicy.monitoringNamespace }}}
  ports:
    - {protocol: TCP, port: 8081}
{{- end }}
