package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
)

// startNode makes this machine the node: containerd, the CNI plug-in ptp and a
// kubelet. What they make lies in the cluster's folder or is undone at its end.
// Two things stay: /proc/sys/net/ipv4/ip_forward is 1, and the kubelet's
// /var/lib/kubelet/device-plugins.
func (c *cluster) startNode() error {
	for _, tool := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc", "ip", "busybox"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("--node needs %s", tool)
		}
	}
	plugins := ""
	for _, dir := range []string{"/opt/cni/bin", "/usr/lib/cni"} {
		if _, err := os.Stat(dir + "/ptp"); err == nil {
			plugins = dir
		}
	}
	if plugins == "" {
		return errors.New("--node needs the CNI plug-ins (containernetworking-plugins)")
	}
	kubeletPort, err := freePort()
	if err != nil {
		return err
	}
	fill := strings.NewReplacer("DIR", c.dir, "PLUGINS", plugins, "SERVICE_IP", serviceIP, "PORT", fmt.Sprint(kubeletPort))
	for path, text := range map[string]string{
		"cni/pods.conflist": cniConfig, "containerd.toml": containerdConfig, "kubelet.yaml": kubeletConfig,
		"mirrors/README": "containerd's hosts.toml files, one folder per registry, read at each pull\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(fill.Replace(text)), 0o644); err != nil {
			return err
		}
	}
	c.undo = append(c.undo, c.unmount)
	if err := c.run("containerd", "containerd", "--config", "containerd.toml", "--log-level", "warn"); err != nil {
		return err
	}
	c.undo = append(c.undo, c.killTasks)
	if err := eventually("containerd", func() error { return c.ctr("version") }); err != nil {
		return err
	}
	if err := pauseImage("pause.tar"); err != nil {
		return err
	}
	if err := c.ctr("images", "import", "pause.tar"); err != nil {
		return err
	}
	// The API server answers at its service address, so that pods can use their
	// own configuration. Other service addresses do not: there is no kube-proxy.
	// It is the node's address too, which may not be one of 127.0.0.0/8.
	if err := exec.Command("ip", "address", "add", serviceIP+"/32", "dev", "lo").Run(); err != nil {
		return fmt.Errorf("%s is taken; does another --node run? %w", serviceIP, err)
	}
	c.undo = append(c.undo, func() { exec.Command("ip", "address", "del", serviceIP+"/32", "dev", "lo").Run() })
	listener, err := net.Listen("tcp", serviceIP+":443")
	if err != nil {
		return err
	}
	go forward(listener, fmt.Sprintf("127.0.0.1:%d", c.port))
	return c.run("kubelet", c.self, "kubelet", "--config", "kubelet.yaml", "--kubeconfig", "kubeconfig",
		"--root-dir", filepath.Join(c.dir, "node"), "--cert-dir", filepath.Join(c.dir, "node/pki"),
		"--hostname-override", "node", "--node-ip", serviceIP)
}

func (c *cluster) ctr(args ...string) error {
	args = append([]string{"-a", filepath.Join(c.dir, "containerd.sock"), "-n", "k8s.io"}, args...)
	text, err := exec.Command("ctr", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ctr: %w: %s", err, text)
	}
	return nil
}

// killTasks ends all containers; their shims would outlive containerd.
func (c *cluster) killTasks() {
	for _, part := range c.running {
		if strings.HasSuffix(part.Path, "/kube") && len(part.Args) > 1 && part.Args[1] == "kubelet" {
			part.Process.Kill() // or it would start them anew
		}
	}
	socket := filepath.Join(c.dir, "containerd.sock")
	list, _ := exec.Command("ctr", "-a", socket, "-n", "k8s.io", "tasks", "ls", "-q").Output()
	for _, id := range strings.Fields(string(list)) {
		c.ctr("tasks", "kill", "-s", "KILL", id)
	}
	for _, id := range strings.Fields(string(list)) {
		c.ctr("tasks", "rm", "-f", id)
	}
}

// unmount undoes every mount below the folder, inner ones first.
func (c *cluster) unmount() {
	table, _ := os.ReadFile("/proc/self/mountinfo")
	var points []string
	for _, line := range strings.Split(string(table), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], c.dir+"/") {
			points = append(points, fields[4])
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(points)))
	for _, point := range points {
		syscall.Unmount(point, syscall.MNT_DETACH)
	}
}

// forward passes connections on.
func forward(listener net.Listener, to string) {
	for {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer near.Close()
			far, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer far.Close()
			go func() {
				io.Copy(far, near)
				far.(*net.TCPConn).CloseWrite()
			}()
			io.Copy(near, far)
		}()
	}
}

// pauseImage writes the image whose process holds a pod's namespaces: busybox
// asleep. It is imported, never pulled.
func pauseImage(path string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	layer, err := archive([]file{{"busybox", 0o755, program}})
	if err != nil {
		return err
	}
	config := fmt.Sprintf(`{"architecture": "amd64", "os": "linux",
 "config": {"Entrypoint": ["/busybox", "sleep", "2147483647"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:%x"]}}`, sha256.Sum256(layer))
	manifest := `[{"Config": "config.json", "RepoTags": ["kube.invalid/pause:1"], "Layers": ["layer.tar"]}]`
	image, err := archive([]file{
		{"manifest.json", 0o644, []byte(manifest)},
		{"config.json", 0o644, []byte(config)},
		{"layer.tar", 0o644, layer},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, image, 0o600)
}

type file struct {
	name string
	mode int64
	data []byte
}

func archive(files []file) ([]byte, error) {
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	for _, one := range files {
		head := &tar.Header{Name: one.name, Mode: one.mode, Size: int64(len(one.data)), Typeflag: tar.TypeReg}
		if err := writer.WriteHeader(head); err != nil {
			return nil, err
		}
		if _, err := writer.Write(one.data); err != nil {
			return nil, err
		}
	}
	err := writer.Close()
	return buffer.Bytes(), err
}

// Each pod has its own pair of interfaces, gone with the pod: no bridge and no
// firewall rule.
const cniConfig = `{"cniVersion": "0.4.0", "name": "pods", "plugins": [{
  "type": "ptp", "ipMasq": false,
  "ipam": {"type": "host-local", "dataDir": "DIR/ipam",
    "ranges": [[{"subnet": "10.77.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
`

const containerdConfig = `version = 2
root = "DIR/containerd"
state = "DIR/containerd-state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
address = "DIR/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "kube.invalid/pause:1"
stream_server_address = "127.0.0.1"
netns_mounts_under_state_dir = true
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "PLUGINS"
conf_dir = "DIR/cni"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "DIR/mirrors"
`

// A container's limits are its own; no cgroup of the machine is touched.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: SERVICE_IP
port: PORT
healthzPort: 0
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: DIR/pki/ca.crt}}
containerRuntimeEndpoint: unix://DIR/containerd.sock
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: false
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
imageGCHighThresholdPercent: 100
makeIPTablesUtilChains: false
serializeImagePulls: false
podLogsDir: DIR/node/pod-logs
volumePluginDir: DIR/node/volume-plugins
`
