// Web is what the cluster tests run in pods: it serves a greeting, asks for one by name, and uses volumes.
//
//	web serve              answer on :8080, one log line per question
//	web fetch URL          print what URL answers
//	web write FILE TEXT    write TEXT into FILE
//	web read FILE          print FILE
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(words []string) error {
	switch {
	case len(words) == 1 && words[0] == "serve":
		return serve()
	case len(words) == 2 && words[0] == "fetch":
		return fetch(words[1])
	case len(words) == 3 && words[0] == "write":
		return os.WriteFile(words[1], []byte(words[2]), 0o600)
	case len(words) == 2 && words[0] == "read":
		content, err := os.ReadFile(words[1])
		fmt.Print(string(content))
		return err
	}
	return fmt.Errorf("usage: web serve | web fetch URL | web write FILE TEXT | web read FILE")
}

func serve() error {
	http.HandleFunc("/", func(answer http.ResponseWriter, question *http.Request) {
		fmt.Println("asked for", question.URL.Path)
		fmt.Fprintln(answer, "hello from", os.Getenv("HOSTNAME"))
	})
	return http.ListenAndServe(":8080", nil)
}

func fetch(url string) error {
	client := http.Client{Timeout: 3 * time.Second}
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}
