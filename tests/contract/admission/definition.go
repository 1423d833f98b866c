package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	structuraldefaulting "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apiextensions-apiserver/pkg/crdserverscheme"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresource"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	genericrequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

// server holds the definitions that were accepted, as the API server would serve them.
type server struct {
	scheme *runtime.Scheme
	served map[schema.GroupVersionKind]*servedVersion
}

// servedVersion is one served version of a definition.
type servedVersion struct {
	namespaced bool
	schema     *structuralschema.Structural
	object     rest.RESTCreateUpdateStrategy
	status     rest.RESTCreateUpdateStrategy // nil without the status subresource
}

type registration struct {
	Name     string       `json:"name"`
	Errors   []fieldError `json:"errors"`
	Warnings []string     `json:"warnings"`
	Costs    []ruleCost   `json:"costs"`
}

// ruleCost is what the API server estimates one CEL expression to cost at worst, and what it allows.
type ruleCost struct {
	Version string `json:"version"`
	Field   string `json:"field"`
	Rule    string `json:"rule"`
	Cost    uint64 `json:"cost"`
	Limit   uint64 `json:"limit"`
}

func newServer() *server {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	return &server{scheme, map[schema.GroupVersionKind]*servedVersion{}}
}

// register judges a definition as its creation is judged, and serves it if nothing is wrong with it.
func (s *server) register(raw []byte) any {
	decoder := serializer.NewCodecFactory(s.scheme, serializer.EnableStrict).UniversalDecoder(apiextensionsv1.SchemeGroupVersion)
	decoded, gvk, err := decoder.Decode(raw, nil, nil)
	if gvk == nil {
		return failure{fmt.Sprintf("not a definition: %v", err)}
	}
	answer := registration{Errors: []fieldError{}, Warnings: []string{}, Costs: []ruleCost{}}
	if *gvk != apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition") {
		answer.Errors = append(answer.Errors, unserved(*gvk))
		return answer
	}
	crd, _ := decoded.(*apiextensionsv1.CustomResourceDefinition)
	if crd != nil {
		answer.Name = crd.Name
	}
	if err != nil {
		answer.Errors = undecodable(err)
		return answer
	}
	internal := &apiextensions.CustomResourceDefinition{}
	if err := s.scheme.Convert(crd.DeepCopy(), internal, nil); err != nil {
		answer.Errors = undecodable(err)
		return answer
	}
	ctx := genericrequest.WithNamespace(context.Background(), metav1.NamespaceNone)
	judge := recording(customresourcedefinition.NewStrategy(s.scheme))
	stampNew(internal)
	answer.Errors = judge.refusals(rest.BeforeCreate(judge, ctx, internal))
	answer.Warnings = append(answer.Warnings, judge.WarningsOnCreate(ctx, internal)...)
	answer.Costs = costs(internal)
	if len(answer.Errors) == 0 {
		if err := s.serve(crd); err != nil {
			return failure{fmt.Sprintf("an accepted definition cannot be served: %v", err)}
		}
	}
	return answer
}

// serve builds each served version like crdHandler.getOrCreateServingInfoFor, from the same parts.
func (s *server) serve(crd *apiextensionsv1.CustomResourceDefinition) error {
	fresh := map[schema.GroupVersionKind]*servedVersion{}
	for _, version := range crd.Spec.Versions {
		if !version.Served {
			continue
		}
		gvk := schema.GroupVersionKind{Group: crd.Spec.Group, Version: version.Name, Kind: crd.Spec.Names.Kind}
		built, err := build(crd, version, gvk)
		if err != nil {
			return err
		}
		fresh[gvk] = built
	}
	maps.DeleteFunc(s.served, func(gvk schema.GroupVersionKind, _ *servedVersion) bool {
		return gvk.Group == crd.Spec.Group && gvk.Kind == crd.Spec.Names.Kind
	})
	maps.Copy(s.served, fresh)
	return nil
}

func build(
	crd *apiextensionsv1.CustomResourceDefinition,
	version apiextensionsv1.CustomResourceDefinitionVersion,
	gvk schema.GroupVersionKind,
) (*servedVersion, error) {
	declared, err := apihelpers.GetSchemaForVersion(crd, version.Name)
	if err != nil {
		return nil, err
	}
	internal := &apiextensions.CustomResourceValidation{}
	if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(declared, internal, nil); err != nil {
		return nil, err
	}
	structural, err := structuralschema.NewStructural(internal.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	structural = structural.DeepCopy() // defaults are shared with the definition until copied
	if err := structuraldefaulting.PruneDefaults(structural); err != nil {
		return nil, err
	}
	validator, _, err := schemavalidation.NewSchemaValidator(internal.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	var subresources apiextensions.CustomResourceSubresources
	if version.Subresources != nil {
		if err := apiextensionsv1.Convert_v1_CustomResourceSubresources_To_apiextensions_CustomResourceSubresources(version.Subresources, &subresources, nil); err != nil {
			return nil, err
		}
	}
	var statusValidator schemavalidation.SchemaValidator
	if statusSchema, ok := internal.OpenAPIV3Schema.Properties["status"]; ok && subresources.Status != nil {
		if statusValidator, _, err = schemavalidation.NewSchemaValidator(&statusSchema); err != nil {
			return nil, err
		}
	}
	namespaced := crd.Spec.Scope == apiextensionsv1.NamespaceScoped
	objects := customresource.NewStrategy(
		crdserverscheme.NewUnstructuredObjectTyper(), namespaced, gvk, validator, statusValidator,
		structural, subresources.Status, subresources.Scale, version.SelectableFields,
	)
	built := &servedVersion{namespaced: namespaced, schema: structural, object: objects}
	if subresources.Status != nil {
		built.status = customresource.NewStatusStrategy(objects)
	}
	return built, nil
}

// costs estimates every CEL expression like ValidateCustomResourceDefinitionOpenAPISchema, which keeps the
// figures to itself unless they are too high. The last entry of a version is the sum of the version.
func costs(crd *apiextensions.CustomResourceDefinition) []ruleCost {
	found := []ruleCost{}
	for _, version := range crd.Spec.Versions {
		declared, err := apiextensions.GetSchemaForVersion(crd, version.Name)
		if err != nil || declared == nil || declared.OpenAPIV3Schema == nil {
			continue
		}
		structural, err := structuralschema.NewStructural(declared.OpenAPIV3Schema)
		if err != nil || len(structuralschema.ValidateStructural(nil, structural)) > 0 {
			continue // CEL is not looked at before the schema is structural
		}
		root := validation.RootCELContext(declared.OpenAPIV3Schema)
		walk := costWalk{version.Name, environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()), &found}
		walk.visit(declared.OpenAPIV3Schema, root, field.NewPath("openAPIV3Schema"))
		found = append(found, ruleCost{
			version.Name, "openAPIV3Schema", "", root.TotalCost.Total, validation.StaticEstimatedCRDCostLimit,
		})
	}
	return found
}

type costWalk struct {
	version string
	env     *environment.EnvSet
	found   *[]ruleCost
}

func (w costWalk) visit(node *apiextensions.JSONSchemaProps, at *validation.CELSchemaContext, path *field.Path) {
	if node == nil {
		return
	}
	if len(node.XValidations) > 0 {
		w.measure(at, path.Child("x-kubernetes-validations"))
	}
	for _, name := range slices.Sorted(maps.Keys(node.Properties)) {
		child := node.Properties[name]
		w.visit(&child, at.ChildPropertyContext(&child, name), path.Child("properties").Key(name))
	}
	if extra := node.AdditionalProperties; extra != nil {
		w.visit(extra.Schema, at.ChildAdditionalPropertiesContext(extra.Schema), path.Child("additionalProperties"))
	}
	if node.Items != nil {
		w.visit(node.Items.Schema, at.ChildItemsContext(node.Items.Schema), path.Child("items"))
	}
}

func (w costWalk) measure(at *validation.CELSchemaContext, path *field.Path) {
	info, err := at.TypeInfo()
	if err != nil || info == nil {
		return // the validation tells that as an error
	}
	compiled, err := cel.Compile(info.Schema, info.DeclType, celconfig.PerCallLimit, w.env, cel.NewExpressionsEnvLoader())
	if err != nil {
		return
	}
	for i, result := range compiled {
		rule := info.Schema.XValidations[i]
		w.note(at, path.Index(i).Child("rule"), rule.Rule, expressionCost(result, at))
		if result.MessageExpression != nil {
			w.note(at, path.Index(i).Child("messageExpression"), rule.MessageExpression, result.MessageExpressionMaxCost)
		}
	}
}

func (w costWalk) note(at *validation.CELSchemaContext, path *field.Path, expression string, cost uint64) {
	at.TotalCost.ObserveExpressionCost(path, cost)
	*w.found = append(*w.found, ruleCost{
		w.version, path.String(), expression, cost, validation.StaticEstimatedCostLimit,
	})
}

// expressionCost is the cost of one evaluation times how often the rule's place in the schema can occur.
func expressionCost(result cel.CompilationResult, at *validation.CELSchemaContext) uint64 {
	times := result.MaxCardinality
	if at.MaxCardinality != nil {
		times = *at.MaxCardinality
	}
	if result.MaxCost > 0 && times > math.MaxUint64/result.MaxCost {
		return math.MaxUint64
	}
	return result.MaxCost * times
}
