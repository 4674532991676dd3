package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// crashes makes a pretended container end with the exit code given.
const crashes = "kiln.test/exit-code"

// pretend is a node that runs nothing. A pod becomes Ready once its registry
// (on loopback, by HTTP) has all its images, and until then waits with the
// reasons of a kubelet. A registry that wants a login gets that of the pod's
// pull secrets. Images of other registries count as absent: no test may depend
// on what is out there. An image changed in place makes a new container, as on
// a real node.
func pretend(client kubernetes.Interface, name string) {
	ctx := context.Background()
	options := meta.ListOptions{FieldSelector: "spec.nodeName=" + name}
	pods := client.CoreV1().Pods("")
	beaten := time.Time{}
	for {
		// A heartbeat every ten seconds; forty without one and the node is lost.
		if time.Since(beaten) > 10*time.Second {
			if err := beat(ctx, client, name); err == nil {
				beaten = time.Now()
			}
		}
		list, err := pods.List(ctx, options)
		if err != nil {
			fmt.Fprintln(os.Stderr, "pretend:", err)
			time.Sleep(time.Second)
			continue
		}
		for i := range list.Items {
			if err := settle(ctx, client, &list.Items[i]); err != nil {
				// Most often somebody else wrote the pod first; the next look mends it.
				fmt.Fprintln(os.Stderr, "pretend:", err)
			}
		}
		// A watch from here on wakes the next look; each second it comes anyway.
		one := options
		one.ResourceVersion = list.ResourceVersion
		watch, err := pods.Watch(ctx, one)
		if err != nil {
			continue
		}
		select {
		case <-watch.ResultChan():
		case <-time.After(time.Second):
		}
		watch.Stop()
	}
}

func beat(ctx context.Context, client kubernetes.Interface, name string) error {
	nodes := client.CoreV1().Nodes()
	node, err := nodes.Get(ctx, name, meta.GetOptions{})
	if err != nil {
		node, err = nodes.Create(ctx, &core.Node{ObjectMeta: meta.ObjectMeta{
			Name: name, Labels: map[string]string{
				core.LabelHostname: name, core.LabelOSStable: "linux", core.LabelArchStable: "amd64",
			},
		}}, meta.CreateOptions{})
		if err != nil {
			return err
		}
	}
	room := core.ResourceList{
		core.ResourceCPU: resource.MustParse("16"), core.ResourceMemory: resource.MustParse("64Gi"),
		core.ResourcePods: resource.MustParse("500"),
	}
	node.Status.Capacity, node.Status.Allocatable = room, room
	node.Status.Conditions = []core.NodeCondition{{
		Type: core.NodeReady, Status: core.ConditionTrue, Reason: "Pretended",
		LastHeartbeatTime: meta.Now(), LastTransitionTime: node.CreationTimestamp,
	}}
	_, err = nodes.UpdateStatus(ctx, node, meta.UpdateOptions{})
	return err
}

// settle brings a pod's status to what its images allow.
func settle(ctx context.Context, client kubernetes.Interface, pod *core.Pod) error {
	pods := client.CoreV1().Pods(pod.Namespace)
	if pod.DeletionTimestamp != nil {
		return pods.Delete(ctx, pod.Name, *meta.NewDeleteOptions(0))
	}
	if pod.Status.Phase == core.PodSucceeded || pod.Status.Phase == core.PodFailed {
		return nil
	}
	next := pod.DeepCopy()
	status := &next.Status
	status.ObservedGeneration = pod.Generation
	status.ContainerStatuses = nil
	status.Phase = core.PodRunning
	ready := core.ConditionTrue
	keys := pullKeys(ctx, client, pod)
	for _, container := range pod.Spec.Containers {
		now := contain(pod, container, keys)
		if now.State.Waiting != nil {
			status.Phase = core.PodPending
		}
		if !now.Ready {
			ready = core.ConditionFalse
		}
		status.ContainerStatuses = append(status.ContainerStatuses, now)
	}
	if ended := status.ContainerStatuses[0].State.Terminated; ended != nil && pod.Spec.RestartPolicy == core.RestartPolicyNever {
		status.Phase = core.PodFailed
	}
	if status.StartTime == nil {
		now := meta.Now()
		status.StartTime = &now
		status.HostIP = "127.0.0.1"
		sum := sha256.Sum256([]byte(pod.UID))
		status.PodIP = fmt.Sprintf("10.78.%d.%d", sum[0], sum[1])
		status.PodIPs = []core.PodIP{{IP: status.PodIP}}
	}
	setCondition(status, core.PodInitialized, core.ConditionTrue)
	setCondition(status, core.ContainersReady, ready)
	setCondition(status, core.PodReady, ready)
	if equality.Semantic.DeepEqual(pod.Status, *status) {
		return nil
	}
	_, err := pods.UpdateStatus(ctx, next, meta.UpdateOptions{})
	return err
}

func setCondition(status *core.PodStatus, kind core.PodConditionType, value core.ConditionStatus) {
	for i := range status.Conditions {
		if one := &status.Conditions[i]; one.Type == kind {
			if one.Status != value {
				one.Status, one.LastTransitionTime = value, meta.Now()
			}
			return
		}
	}
	status.Conditions = append(status.Conditions, core.PodCondition{
		Type: kind, Status: value, LastTransitionTime: meta.Now(),
	})
}

// contain says what became of one container.
func contain(pod *core.Pod, container core.Container, keys map[string]string) core.ContainerStatus {
	old := core.ContainerStatus{Name: container.Name}
	for _, status := range pod.Status.ContainerStatuses {
		if status.Name == container.Name {
			old = status
		}
	}
	fresh := old.ContainerID == "" || old.Image != container.Image
	next := core.ContainerStatus{
		Name: container.Name, Image: container.Image, RestartCount: old.RestartCount,
		LastTerminationState: old.LastTerminationState,
	}
	if fresh {
		if problem := missing(container.Image, keys); problem != "" {
			// The first refusal is told alone, later ones as a pause before another try.
			reason := "ErrImagePull"
			if old.State.Waiting != nil && old.Image == container.Image {
				reason = "ImagePullBackOff"
				problem = fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %s", container.Image, problem)
			}
			next.State.Waiting = &core.ContainerStateWaiting{Reason: reason, Message: problem}
			return next
		}
	}
	if code, err := strconv.Atoi(pod.Annotations[crashes]); err == nil {
		return crash(pod, old, next, int32(code))
	}
	if !fresh {
		return old
	}
	if old.ContainerID != "" {
		next.RestartCount++
	}
	started := true
	next.Ready, next.Started = true, &started
	next.ImageID = container.Image
	next.ContainerID = identity(pod, next)
	next.State.Running = &core.ContainerStateRunning{StartedAt: meta.Now()}
	return next
}

// crash ends a container, and ends it again every two seconds.
func crash(pod *core.Pod, old, next core.ContainerStatus, code int32) core.ContainerStatus {
	if ended := old.State.Terminated; ended != nil {
		if time.Since(ended.FinishedAt.Time) < 2*time.Second || pod.Spec.RestartPolicy == core.RestartPolicyNever {
			return old
		}
		next.LastTerminationState = old.State
		next.RestartCount++
	}
	next.ContainerID = identity(pod, next)
	next.ImageID = next.Image
	next.State.Terminated = &core.ContainerStateTerminated{
		ExitCode: code, Reason: "Error", StartedAt: meta.Now(), FinishedAt: meta.Now(),
		ContainerID: next.ContainerID,
	}
	return next
}

func identity(pod *core.Pod, status core.ContainerStatus) string {
	text := fmt.Sprint(pod.UID, status.Name, status.Image, status.RestartCount)
	return fmt.Sprintf("pretend://%x", sha256.Sum256([]byte(text)))
}

// pullKeys are the logins of a pod's pull secrets, by registry.
func pullKeys(ctx context.Context, client kubernetes.Interface, pod *core.Pod) map[string]string {
	keys := map[string]string{}
	for _, named := range pod.Spec.ImagePullSecrets {
		// One that is not there is no login; a kubelet goes on without it too.
		secret, err := client.CoreV1().Secrets(pod.Namespace).Get(ctx, named.Name, meta.GetOptions{})
		if err != nil {
			continue
		}
		var config struct {
			Auths map[string]struct{ Auth string }
		}
		if json.Unmarshal(secret.Data[core.DockerConfigJsonKey], &config) == nil {
			for host, one := range config.Auths {
				keys[host] = one.Auth
			}
		}
	}
	return keys
}

// missing says why an image cannot be pulled, in containerd's words, or nothing.
func missing(image string, keys map[string]string) string {
	refuse := func(why string) string {
		return fmt.Sprintf("failed to pull and unpack image %q: failed to resolve reference %q: %s", image, image, why)
	}
	host, rest, _ := strings.Cut(image, "/")
	if !strings.HasPrefix(host, "127.0.0.1:") && !strings.HasPrefix(host, "localhost:") {
		return refuse("dial tcp: lookup " + host + ": no such host")
	}
	name, selector, pinned := strings.Cut(rest, "@")
	if tagged, tag, ok := strings.Cut(name, ":"); ok {
		name = tagged
		if !pinned {
			selector, pinned = tag, true
		}
	}
	if !pinned {
		selector = "latest"
	}
	request, err := http.NewRequest(http.MethodHead, fmt.Sprintf("http://%s/v2/%s/manifests/%s", host, name, selector), nil)
	if err != nil {
		return refuse(err.Error())
	}
	for _, kind := range []string{
		"application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
		"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
	} {
		request.Header.Add("Accept", kind)
	}
	if key := keys[host]; key != "" {
		request.Header.Set("Authorization", "Basic "+key)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return refuse("failed to do request: " + err.Error())
	}
	answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
		return ""
	case http.StatusNotFound:
		return "rpc error: code = NotFound desc = " + refuse(image+": not found")
	default:
		return refuse("unexpected status from HEAD request: " + answer.Status)
	}
}
