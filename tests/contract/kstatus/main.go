// Command kstatus says what kstatus makes of Kubernetes objects: Current, InProgress, Failed or Terminating.
//
// kstatus is the library by which Helm and Flux decide whether an object that they applied is ready; go.mod pins
// the very version that Helm uses. This program only carries objects in and answers out.
//
// Standard input carries one JSON object per line, standard output one JSON answer per line, in order:
//
//	{...}  -> {"status", "message"}
//
// An object that cannot be read, or that kstatus refuses, is answered {"error": ...}. The exit status is 1 if
// standard input or output breaks.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type answer struct {
	Status  string `json:"status,omitempty"`
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`
}

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

// serve answers line by line until the input ends.
func serve(input io.Reader, output io.Writer) error {
	in := bufio.NewReader(input)
	out := json.NewEncoder(output)
	out.SetEscapeHTML(false)
	for {
		line, readErr := in.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := out.Encode(read(line)); err != nil {
				return fmt.Errorf("cannot answer: %w", err)
			}
		}
		if errors.Is(readErr, io.EOF) {
			return nil
		}
		if readErr != nil {
			return fmt.Errorf("cannot read the next object: %w", readErr)
		}
	}
}

// read asks kstatus about one object, read as the API machinery reads it: with whole numbers as int64.
func read(line []byte) answer {
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(line); err != nil {
		return answer{Error: fmt.Sprintf("not an object: %v", err)}
	}
	result, err := status.Compute(object)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Status: result.Status.String(), Message: result.Message}
}
