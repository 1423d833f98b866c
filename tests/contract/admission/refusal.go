package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
)

// fieldError is one reason to refuse; Message is the whole of it, as kubectl prints it.
type fieldError struct {
	Field   string `json:"field"`
	Type    string `json:"type"`
	Detail  string `json:"detail"`
	Message string `json:"message"`
}

// strategy is a registry strategy that keeps what it finds: the status that rest.BeforeCreate and
// rest.BeforeUpdate make of it no longer holds a field error's bare detail.
type strategy struct {
	rest.RESTCreateUpdateStrategy
	details map[string]string // by message
}

func recording(inner rest.RESTCreateUpdateStrategy) strategy {
	return strategy{inner, map[string]string{}}
}

func (s strategy) Validate(ctx context.Context, obj runtime.Object) field.ErrorList {
	return s.keep(s.RESTCreateUpdateStrategy.Validate(ctx, obj))
}

func (s strategy) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	return s.keep(s.RESTCreateUpdateStrategy.ValidateUpdate(ctx, obj, old))
}

func (s strategy) keep(errs field.ErrorList) field.ErrorList {
	for _, err := range errs {
		s.details[err.Error()] = err.Detail
	}
	return errs
}

// refusals lists what a status from the registry says.
func (s strategy) refusals(err error) []fieldError {
	found := []fieldError{}
	var status apierrors.APIStatus
	switch {
	case err == nil:
	case !errors.As(err, &status):
		found = append(found, plain("InternalError", err.Error()))
	case status.Status().Details == nil || len(status.Status().Details.Causes) == 0:
		found = append(found, plain(string(status.Status().Reason), status.Status().Message))
	default:
		for _, cause := range status.Status().Details.Causes {
			message := cause.Field + ": " + cause.Message // field.Error.Error, which the status took apart
			detail, known := s.details[message]
			if !known {
				detail = cause.Message
			}
			found = append(found, fieldError{cause.Field, string(cause.Type), detail, message})
		}
	}
	return settle(found)
}

var quotedField = regexp.MustCompile(`^(?:unknown|duplicate) field "(.*)"$`)

// undecodable lists why a body could not be decoded: one entry for each unknown or duplicate field, or the
// one error that ended decoding.
func undecodable(err error) []fieldError {
	strict, ok := runtime.AsStrictDecodingError(err)
	if !ok {
		return []fieldError{plain(string(metav1.StatusReasonBadRequest), err.Error())}
	}
	found := []fieldError{}
	for _, each := range strict.Errors() {
		path := ""
		if match := quotedField.FindStringSubmatch(each.Error()); match != nil {
			path = match[1]
		}
		message := runtime.NewStrictDecodingError([]error{each}).Error()
		found = append(found, fieldError{path, string(metav1.StatusReasonBadRequest), each.Error(), message})
	}
	return settle(found)
}

func plain(reason, message string) fieldError {
	return fieldError{Type: reason, Detail: message, Message: message}
}

// unserved is what a client says of a kind that the server does not list.
func unserved(gvk schema.GroupVersionKind) fieldError {
	return plain(string(metav1.StatusReasonNotFound),
		fmt.Sprintf("no matches for kind %q in version %q", gvk.Kind, gvk.GroupVersion()))
}

// settle sorts the errors, for the server's order follows Go's maps, and tells each message once, like kubectl.
func settle(found []fieldError) []fieldError {
	slices.SortFunc(found, func(a, b fieldError) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Message, b.Message))
	})
	return slices.CompactFunc(found, func(a, b fieldError) bool { return a.Message == b.Message })
}
