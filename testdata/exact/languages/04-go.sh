# user: app
# workdir: /home/app/go-program
set -eu
export SSL_CERT_FILE=/steps/certificates.crt GOFLAGS=-mod=mod GOPROXY=https://proxy.golang.org GONOSUMDB=* CGO_ENABLED=0
cat >main.go <<'END'
package main

import (
	"fmt"
	"golang.org/x/text/language"
	"golang.org/x/tools/txtar"
)

func main() { fmt.Println(language.German, len(txtar.Parse(nil).Files)) }
END
go mod init example.invalid/program 2>/dev/null
go get golang.org/x/text@v0.14.0 golang.org/x/tools@v0.13.0 2>/dev/null
go build -trimpath -o program .
./program
# Its cache has times in the content, and names that follow from it.
rm -rf ~/.cache
