// The runner's commands without the executors and secret stores that a docker host has no use for.
package main

import (
	"os"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli"

	"gitlab.com/gitlab-org/gitlab-runner/commands"
	"gitlab.com/gitlab-org/gitlab-runner/commands/helpers"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker"
	"gitlab.com/gitlab-org/gitlab-runner/executors/shell"
	settings "gitlab.com/gitlab-org/gitlab-runner/helpers/cli"
	"gitlab.com/gitlab-org/gitlab-runner/log"
	"gitlab.com/gitlab-org/gitlab-runner/network"

	// Each makes itself known when it is loaded.
	_ "gitlab.com/gitlab-org/gitlab-runner/cache/s3v2"
	_ "gitlab.com/gitlab-org/gitlab-runner/shells"
)

func main() {
	// Go keeps below the container's memory limit, as in the official build.
	memlimit.SetGoMemLimitWithEnv()
	known := providers()
	for name, provider := range known.All() {
		if err := common.ValidateExecutorProvider(provider); err != nil {
			logrus.Fatalf("executor %s: %v", name, err)
		}
	}
	if err := application(known).Run(os.Args); err != nil {
		logrus.Fatal(err)
	}
}

// providers are the executors of this build.
func providers() *executors.ProviderRegistry {
	self, err := os.Executable()
	if err != nil {
		logrus.Fatal(err)
	}
	return executors.NewProviderRegistry(map[string]common.ExecutorProvider{
		"docker": docker.NewProvider(),
		"shell":  shell.NewProvider(self),
	})
}

func application(known *executors.ProviderRegistry) *cli.App {
	calls := network.NewAPIRequestsCollector()
	gitlab := network.NewGitLabClient(
		network.WithAPIRequestsCollector(calls),
		network.WithCertificateDirectory(commands.GetDefaultCertificateDirectory()),
		network.WithExecutorProviderFunc(known.GetByName),
	)
	app := cli.NewApp()
	app.Name = "gitlab-runner"
	app.Usage = "a GitLab runner with the docker and shell executors"
	app.Version = common.AppVersion.ShortLine()
	cli.VersionPrinter = common.AppVersion.Printer
	app.Commands = append(
		[]cli.Command{
			commands.NewListCommand(),
			commands.NewRegisterCommand(gitlab, known),
			commands.NewResetTokenCommand(gitlab),
			commands.NewRunCommand(gitlab, calls, known),
			commands.NewRunSingleCommand(gitlab, known),
			commands.NewUnregisterCommand(gitlab),
			commands.NewVerifyCommand(gitlab),
			helpers.NewArtifactsDownloaderCommand(),
			helpers.NewArtifactsUploaderCommand(),
			helpers.NewCacheArchiverCommand(),
			helpers.NewCacheExtractorCommand(),
			helpers.NewHealthCheckCommand(),
		},
		commands.NewServiceCommands()...,
	)
	settings.InitCli()
	settings.LogRuntimePlatform(app)
	settings.FixHOME(app)
	settings.WarnOnBool(os.Args)
	log.ConfigureLogging(app)
	return app
}
