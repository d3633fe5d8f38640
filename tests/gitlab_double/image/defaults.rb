# What the image itself sets before and after the configuration of those who run it.
postgresql['shared_buffers'] = '256MB'
node_exporter['enable'] = false
manage_accounts['enable'] = false
external_url "http://#{`hostname`.strip}"
package['detect_init'] = false
package['modify_kernel_parameters'] = false
eval ENV['GITLAB_OMNIBUS_CONFIG'].to_s # rubocop:disable Security/Eval
from_file('/etc/gitlab/gitlab.rb')
