// Command kube is a Kubernetes for tests, in one binary: the real API server,
// controller manager, scheduler, kubelet and kubectl, and a supervisor that
// runs them on loopback (cluster.go) with a node that pretends (pretend.go),
// this machine as the node (node.go), or none.
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

// The parts of Kubernetes parse their own flags.
var parts = map[string]func() *cobra.Command{
	"apiserver": apiserver.NewAPIServerCommand,
	"manager":   manager.NewControllerManagerCommand,
	"scheduler": func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubelet":   func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
}

var verbs = map[string]func(args []string) error{"up": up, "down": down}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	name := os.Args[1]
	// The name is what kubectl calls itself among the owners of fields.
	os.Args = append([]string{name}, os.Args[2:]...)
	if part, ok := parts[name]; ok {
		os.Exit(cli.Run(part()))
	}
	if name == "kubectl" {
		// It words and prints its errors itself.
		kubectlutil.CheckErr(cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()))
		return
	}
	verb, ok := verbs[name]
	if !ok {
		usage()
	}
	if err := verb(os.Args[1:]); err != nil {
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
