// Command kube is a Kubernetes for tests, in one binary: the real API server,
// controller manager, scheduler, kubelet and kubectl, a node that only
// pretends, and the supervisor that runs them (see cluster.go).
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// Parts of Kubernetes parse their own flags.
var parts = map[string]func() *cobra.Command{
	"apiserver": apiserver.NewAPIServerCommand,
	"manager":   manager.NewControllerManagerCommand,
	"scheduler": func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubelet":   func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
}

// Parts of ours take plain arguments.
var ours = map[string]func(args []string) error{
	"up":        up,
	"down":      down,
	"supervise": supervise,
	"pretend":   pretend,
	"forward":   forward,
}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	name := os.Args[1]
	os.Args = append([]string{"kube " + name}, os.Args[2:]...)
	if part, ok := parts[name]; ok {
		os.Exit(cli.Run(part()))
	}
	if name == "kubectl" {
		// It words and prints its errors itself.
		kubectlutil.CheckErr(cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()))
		return
	}
	part, ok := ours[name]
	if !ok {
		usage()
	}
	if err := part(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "kube %s: %v\n", name, err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, `usage: kube up [--pretend|--node] [--attached] [DIR]
       kube down DIR
       kube kubectl|apiserver|manager|scheduler|kubelet [FLAG]...`)
	os.Exit(2)
}
