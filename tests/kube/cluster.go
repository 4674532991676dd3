package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	serviceNet = "10.96.0.0/16"
	serviceIP  = "10.96.0.1" // the API server, as pods know it
	control    = "control"   // the socket that `down` speaks to
)

// up starts a cluster and prints the path of its kubeconfig. All state lies in
// one folder. Detached (the usual way) a supervisor stays behind until `down`;
// attached this process is the supervisor and ends with its standard input, so
// that a test which is killed leaves nothing running.
func up(args []string) error {
	var mode, dir string
	attached := false
	for _, arg := range args {
		switch {
		case arg == "--pretend" || arg == "--node":
			mode = strings.TrimPrefix(arg, "--")
		case arg == "--attached":
			attached = true
		case strings.HasPrefix(arg, "-"):
			usage()
		default:
			dir = arg
		}
	}
	if mode == "node" && os.Getuid() != 0 {
		return errors.New("--node needs root")
	}
	if dir == "" {
		made, err := os.MkdirTemp("", "kube.")
		if err != nil {
			return err
		}
		dir = made
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
		return err
	}
	if attached {
		return supervise(dir, mode, os.Stdin)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// The supervisor's standard input is a pipe that stays open for ever, in a
	// session of its own; what it prints is the path, or nothing.
	child := exec.Command(self, "up", "--attached", "--"+mode, dir)
	if mode == "" {
		child = exec.Command(self, "up", "--attached", dir)
	}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	log, err := os.Create(filepath.Join(dir, "log", "supervisor.log"))
	if err != nil {
		return err
	}
	child.Stderr = log
	endless, keep, err := os.Pipe()
	if err != nil {
		return err
	}
	child.Stdin = endless
	child.ExtraFiles = []*os.File{keep} // the child holds the writing end itself
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if line == "" {
		child.Wait()
		// Read through the open file: the folder is gone.
		log.Seek(0, io.SeekStart)
		text, _ := io.ReadAll(log)
		return fmt.Errorf("%s", strings.TrimSpace(string(text)))
	}
	fmt.Print(line)
	return nil
}

// down ends the cluster in a folder, and returns once nothing of it is left.
func down(args []string) error {
	if len(args) != 1 {
		usage()
	}
	dir := args[0]
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		dir = filepath.Dir(dir) // the kubeconfig was given
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	// By its name in the folder: a socket's path must be short.
	conn, err := net.Dial("unix", control)
	if err != nil {
		return fmt.Errorf("nothing runs in %s: %w", dir, err)
	}
	defer conn.Close()
	_, err = io.Copy(io.Discard, conn) // ends with the supervisor
	return err
}

type cluster struct {
	dir     string
	self    string
	port    int
	running []*exec.Cmd
	ended   chan error // a part that ended by itself
	undo    []func()   // last first
}

// supervise runs a cluster until its input ends, a signal comes, or somebody
// connects to the control socket.
func supervise(dir, mode string, input io.Reader) (err error) {
	// Children die with the thread that started them (PR_SET_PDEATHSIG), and so
	// with this process, however it ends; this thread must last.
	runtime.LockOSThread()
	c := &cluster{dir: dir, ended: make(chan error, 16)}
	if c.self, err = os.Executable(); err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	listener, err := net.Listen("unix", control)
	if err != nil {
		return fmt.Errorf("another cluster in %s? %w", dir, err)
	}
	stop := make(chan net.Conn, 4)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			stop <- conn
		}
	}()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	closed := make(chan struct{})
	go func() {
		io.Copy(io.Discard, input)
		close(closed)
	}()

	started := make(chan error, 1)
	if err := c.start(mode); err != nil {
		c.end(true)
		return err
	}
	go func() { started <- c.ready(mode) }()
	var caller net.Conn
	for wait := true; wait; {
		select {
		case err := <-started:
			if err != nil {
				return c.fail(err)
			}
			fmt.Println(filepath.Join(dir, "kubeconfig"))
		case err := <-c.ended:
			return c.fail(err)
		case caller = <-stop:
			wait = false
		case <-signals:
			wait = false
		case <-closed:
			wait = false
		}
	}
	c.end(true)
	if caller != nil {
		caller.Close()
	}
	return nil
}

// fail ends what runs and keeps the logs' last words.
func (c *cluster) fail(err error) error {
	c.end(false)
	text := err.Error()
	logs, _ := filepath.Glob("log/*.log")
	for _, name := range logs {
		if data, _ := os.ReadFile(name); len(data) > 0 {
			lines := strings.Split(strings.TrimSpace(string(data)), "\n")
			text += "\n==> " + name + "\n" + strings.Join(lines[max(0, len(lines)-4):], "\n")
		}
	}
	os.RemoveAll(c.dir)
	return errors.New(text)
}

// end kills all parts: nothing of theirs is kept, so nobody waits for them.
func (c *cluster) end(remove bool) {
	for i := len(c.undo) - 1; i >= 0; i-- {
		c.undo[i]()
	}
	for _, part := range c.running {
		part.Process.Kill()
	}
	for _, part := range c.running {
		part.Wait()
	}
	if remove {
		os.RemoveAll(c.dir)
	}
}

// run starts a part; its output goes to a log of its name.
func (c *cluster) run(name, program string, args ...string) error {
	log, err := os.Create(filepath.Join("log", name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	part := exec.Command(program, args...)
	part.Stdout, part.Stderr = log, log
	part.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := part.Start(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	c.running = append(c.running, part)
	go func() {
		// Only looked at: the process is waited for in end.
		for {
			state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", part.Process.Pid))
			if err != nil || strings.Contains(string(state), ") Z ") {
				c.ended <- fmt.Errorf("%s ended", name)
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
	}()
	return nil
}

func (c *cluster) start(mode string) (err error) {
	if c.port, err = freePort(); err != nil {
		return err
	}
	if err := writeKeys(fmt.Sprintf("https://127.0.0.1:%d", c.port)); err != nil {
		return err
	}
	// etcd listens on sockets in the folder: no ports, and no one else gets in.
	if err := c.run("etcd", "etcd", "--data-dir", "etcd", "--unsafe-no-fsync", "--log-level", "error",
		"--listen-client-urls", "unix://etcd:0", "--advertise-client-urls", "unix://etcd:0",
		"--listen-peer-urls", "unix://etcd:1", "--initial-advertise-peer-urls", "unix://etcd:1",
		"--initial-cluster", "default=unix://etcd:1"); err != nil {
		return err
	}
	if err := c.run("apiserver", c.self, "apiserver",
		"--etcd-servers", "unix://etcd:0",
		"--bind-address", "127.0.0.1", "--secure-port", fmt.Sprint(c.port),
		"--endpoint-reconciler-type", "none", "--service-cluster-ip-range", serviceNet,
		"--tls-cert-file", "pki/server.crt", "--tls-private-key-file", "pki/server.key",
		"--client-ca-file", "pki/ca.crt", "--authorization-mode", "Node,RBAC",
		"--kubelet-client-certificate", "pki/admin.crt", "--kubelet-client-key", "pki/admin.key",
		"--kubelet-preferred-address-types", "InternalIP",
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", "pki/accounts.pub",
		"--service-account-signing-key-file", "pki/accounts.key",
		"--allow-privileged", "--profiling=false"); err != nil {
		return err
	}
	if err := c.run("manager", c.self, "manager", "--kubeconfig", "kubeconfig",
		"--leader-elect=false", "--secure-port", "0", "--profiling=false",
		"--service-account-private-key-file", "pki/accounts.key",
		"--root-ca-file", "pki/ca.crt"); err != nil {
		return err
	}
	if err := c.run("scheduler", c.self, "scheduler", "--kubeconfig", "kubeconfig",
		"--leader-elect=false", "--secure-port", "0", "--profiling=false"); err != nil {
		return err
	}
	if mode == "node" {
		return c.startNode()
	}
	return nil
}

// ready returns once pods can be made, and run if there is a node.
func (c *cluster) ready(mode string) error {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(c.dir, "kubeconfig"))
	if err != nil {
		return err
	}
	config.QPS = -1 // the default limit would make large rollouts crawl
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := eventually("API server", func() error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	}); err != nil {
		return err
	}
	if err := eventually("default service account", func() error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", meta.GetOptions{})
		return err
	}); err != nil {
		return err
	}
	if mode == "" {
		return nil
	}
	if mode == "pretend" {
		go pretend(client, mode)
	}
	return eventually("node", func() error {
		node, err := client.CoreV1().Nodes().Get(ctx, mode, meta.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == core.NodeReady && condition.Status == core.ConditionTrue && len(node.Spec.Taints) == 0 {
				return nil
			}
		}
		return errors.New("it is not ready")
	})
}

func eventually(what string, try func() error) (err error) {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
